"""Heads for your classes on a backbone that stays as it is: chosen by cross-validation, calibrated, reported."""

__all__ = ["calibration", "fit", "floor", "folder", "heads", "results"]
