"""PyTorch's paths, ``utils.data`` and ``utils.checkpoint``, to rooms of the house."""
