"""`nnlib.autograd.checkpoint`, where PyTorch has it."""

from nnlib.autograd.checkpointing import checkpoint as checkpoint
