"""Every differentiable operation, one file per family."""

from nnlib.ops.arithmetic import *  # noqa: F403
from nnlib.ops.casting import *  # noqa: F403
from nnlib.ops.comparison import *  # noqa: F403
from nnlib.ops.creation import *  # noqa: F403
from nnlib.ops.division import *  # noqa: F403
from nnlib.ops.exponential import *  # noqa: F403
from nnlib.ops.hyperbolic import *  # noqa: F403
from nnlib.ops.interpolation import *  # noqa: F403
from nnlib.ops.logic import *  # noqa: F403
from nnlib.ops.power import *  # noqa: F403
from nnlib.ops.ranges import *  # noqa: F403
from nnlib.ops.rounding import *  # noqa: F403
from nnlib.ops.selection import *  # noqa: F403
from nnlib.ops.trigonometric import *  # noqa: F403
