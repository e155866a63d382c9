"""How good a model is, on one's own pictures and on ImageNet's, and which of two is better."""
