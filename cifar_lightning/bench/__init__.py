"""What a training step costs, beside plain PyTorch."""
