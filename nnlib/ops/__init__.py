"""Every differentiable operation, one file per family."""

from nnlib.ops.arithmetic import *  # noqa: F403
from nnlib.ops.casting import *  # noqa: F403
