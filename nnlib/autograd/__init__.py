"""Tensor, Function, the backward pass, grad modes."""
