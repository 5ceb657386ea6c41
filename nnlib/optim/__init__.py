"""Optimisers and schedules; names, defaults and formulas are PyTorch's."""

from nnlib.optim import lr_scheduler as lr_scheduler
from nnlib.optim.optimizer import Optimizer

__all__ = ["Optimizer", "lr_scheduler"]
