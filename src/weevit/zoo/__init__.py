"""What there is: architectures, published weights, checkpoints, the hub; and how foreign files are read safely."""

__all__ = [
    "architectures",
    "checkpoint",
    "counts",
    "decision",
    "fields",
    "hub",
    "labels",
    "layout",
    "manifest",
    "quantized",
    "records",
    "resolve",
    "safetensors_file",
    "strict_json",
    "weights",
    "writing",
]
