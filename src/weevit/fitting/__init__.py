"""Heads for one's own classes on a backbone that stays as it is: chosen by cross-validation, calibrated, reported."""
