"""How good a model is, on your images and on ImageNet's, and which of two is better."""
