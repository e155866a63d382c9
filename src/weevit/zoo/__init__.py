"""What there is: architectures, published weights, checkpoints, the hub."""
