"""Optimizers: ours, where torch has none, and how any of them gets its parameters."""
