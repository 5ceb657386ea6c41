"""PyTorch's paths, ``utils.data`` and ``utils.checkpoint``, to rooms of the house."""

from nnlib.utils import checkpoint as checkpoint
from nnlib.utils import data as data
