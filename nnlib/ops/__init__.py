"""Every differentiable operation, one file per family.

Operations join by standing in their file's ``__all__``; those that PyTorch has only
under ``nn.functional`` are named there instead.
"""

from typing import TYPE_CHECKING

from nnlib.ops.activation import prelu as prelu
from nnlib.ops.activation import relu as relu
from nnlib.ops.activation import relu_ as relu_
from nnlib.ops.activation_elu import celu as celu
from nnlib.ops.activation_elu import celu_ as celu_
from nnlib.ops.activation_elu import selu as selu
from nnlib.ops.activation_elu import selu_ as selu_
from nnlib.ops.activation_hard import hardshrink as hardshrink
from nnlib.ops.activation_hard import threshold as threshold
from nnlib.ops.arithmetic import *  # noqa: F403
from nnlib.ops.arranging import *  # noqa: F403
from nnlib.ops.bounds import *  # noqa: F403
from nnlib.ops.casting import *  # noqa: F403
from nnlib.ops.comparison import *  # noqa: F403
from nnlib.ops.convolution import *  # noqa: F403
from nnlib.ops.counting import *  # noqa: F403
from nnlib.ops.creation import *  # noqa: F403
from nnlib.ops.decompositions import *  # noqa: F403
from nnlib.ops.determinants import *  # noqa: F403
from nnlib.ops.dimensions import *  # noqa: F403
from nnlib.ops.division import *  # noqa: F403
from nnlib.ops.einsum import *  # noqa: F403
from nnlib.ops.expanding import *  # noqa: F403
from nnlib.ops.exponential import *  # noqa: F403
from nnlib.ops.extremes import *  # noqa: F403
from nnlib.ops.filling import *  # noqa: F403
from nnlib.ops.gathering import *  # noqa: F403
from nnlib.ops.histograms import *  # noqa: F403
from nnlib.ops.hyperbolic import *  # noqa: F403
from nnlib.ops.incomplete_gamma import *  # noqa: F403
from nnlib.ops.indexing import *  # noqa: F403
from nnlib.ops.interpolation import *  # noqa: F403
from nnlib.ops.joining import *  # noqa: F403
from nnlib.ops.linear_systems import *  # noqa: F403
from nnlib.ops.logic import *  # noqa: F403
from nnlib.ops.lu import *  # noqa: F403
from nnlib.ops.masking import *  # noqa: F403
from nnlib.ops.matmul import *  # noqa: F403
from nnlib.ops.matrix_functions import *  # noqa: F403
from nnlib.ops.moments import *  # noqa: F403
from nnlib.ops.normalization import batch_norm as batch_norm
from nnlib.ops.normalization import group_norm as group_norm
from nnlib.ops.normalization import instance_norm as instance_norm
from nnlib.ops.normalization_rows import layer_norm as layer_norm
from nnlib.ops.normalization_rows import rms_norm as rms_norm
from nnlib.ops.number_parts import *  # noqa: F403
from nnlib.ops.pairs import *  # noqa: F403
from nnlib.ops.pooling import adaptive_max_pool1d as adaptive_max_pool1d
from nnlib.ops.pooling import max_pool1d as max_pool1d
from nnlib.ops.pooling import max_pool2d as max_pool2d
from nnlib.ops.pooling import max_pool3d as max_pool3d
from nnlib.ops.pooling_average import adaptive_avg_pool1d as adaptive_avg_pool1d
from nnlib.ops.pooling_average import avg_pool1d as avg_pool1d
from nnlib.ops.power import *  # noqa: F403
from nnlib.ops.products import *  # noqa: F403
from nnlib.ops.quantiles import *  # noqa: F403
from nnlib.ops.random_tensors import *  # noqa: F403
from nnlib.ops.ranges import *  # noqa: F403
from nnlib.ops.redrawing import *  # noqa: F403
from nnlib.ops.reduction import *  # noqa: F403
from nnlib.ops.replacing import *  # noqa: F403
from nnlib.ops.resize import channel_shuffle as channel_shuffle
from nnlib.ops.resize import pixel_shuffle as pixel_shuffle
from nnlib.ops.resize import pixel_unshuffle as pixel_unshuffle
from nnlib.ops.rounding import *  # noqa: F403
from nnlib.ops.sampling import *  # noqa: F403
from nnlib.ops.scan import *  # noqa: F403
from nnlib.ops.scatter_reduce import *  # noqa: F403
from nnlib.ops.selection import *  # noqa: F403
from nnlib.ops.sets import *  # noqa: F403
from nnlib.ops.shape import *  # noqa: F403
from nnlib.ops.softmax import log_softmax as log_softmax
from nnlib.ops.softmax import softmax as softmax
from nnlib.ops.sorting import *  # noqa: F403
from nnlib.ops.special_functions import *  # noqa: F403
from nnlib.ops.statistics import *  # noqa: F403
from nnlib.ops.striding import *  # noqa: F403
from nnlib.ops.trigonometric import *  # noqa: F403
from nnlib.ops.window_functions import *  # noqa: F403
from nnlib.ops.writing import *  # noqa: F403

if not TYPE_CHECKING:
    # `from nnlib.ops import *` is for operations, not for the files they stand in. Type
    # checkers read the imports above.
    __all__ = [
        name
        for name, value in globals().items()
        if not name.startswith("_")
        and getattr(value, "__module__", "").startswith("nnlib.ops.")
    ]
