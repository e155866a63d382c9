"""A checkpoint as an ONNX graph, built straight from its tensors."""

__all__ = ["folds", "positions", "vit"]
