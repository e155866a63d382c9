"""int8 checkpoints: what calibration sees, what is chosen by it, and the gate that a quantised model has to pass."""

__all__ = ["images", "observe", "quantize", "results"]
