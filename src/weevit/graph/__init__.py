"""A checkpoint as an ONNX graph, built straight from its tensors."""
