"""A checkpoint as an ONNX graph, built straight from its tensors."""

__all__ = ["folds", "layers", "positions", "vit", "weights"]
