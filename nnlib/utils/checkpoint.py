"""`nnlib.autograd.checkpoint`, where PyTorch has it."""

from nnlib.autograd.checkpointing import checkpoint as checkpoint
from nnlib.autograd.checkpointing import checkpoint_sequential as checkpoint_sequential
