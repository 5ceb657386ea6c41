"""Functions that layers are made of: activations, losses, dropout, and their kin.

A function joins by standing in its family file's ``__all__``.
"""

from nnlib.ops.activation import *  # noqa: F403
from nnlib.ops.activation_elu import *  # noqa: F403
from nnlib.ops.activation_hard import *  # noqa: F403
from nnlib.ops.activation_smooth import *  # noqa: F403
from nnlib.ops.attention import *  # noqa: F403
from nnlib.ops.bilinear import *  # noqa: F403
from nnlib.ops.convolution import *  # noqa: F403
from nnlib.ops.distance import *  # noqa: F403
from nnlib.ops.dropout import *  # noqa: F403
from nnlib.ops.embedding import embedding as embedding
from nnlib.ops.embedding_bag import embedding_bag as embedding_bag
from nnlib.ops.exponential import sigmoid as sigmoid
from nnlib.ops.grid import *  # noqa: F403
from nnlib.ops.gumbel import gumbel_softmax as gumbel_softmax
from nnlib.ops.hyperbolic import tanh as tanh
from nnlib.ops.loss_binary import *  # noqa: F403
from nnlib.ops.loss_classification import *  # noqa: F403
from nnlib.ops.loss_ctc import ctc_loss as ctc_loss
from nnlib.ops.loss_margin import *  # noqa: F403
from nnlib.ops.loss_multilabel import *  # noqa: F403
from nnlib.ops.loss_regression import *  # noqa: F403
from nnlib.ops.loss_sampled import negative_sampling_loss as negative_sampling_loss
from nnlib.ops.loss_skipgram import *  # noqa: F403
from nnlib.ops.masking import one_hot as one_hot
from nnlib.ops.matmul import linear as linear
from nnlib.ops.normalization import batch_norm as batch_norm
from nnlib.ops.normalization import group_norm as group_norm
from nnlib.ops.normalization import instance_norm as instance_norm
from nnlib.ops.normalization_rows import *  # noqa: F403
from nnlib.ops.padding import *  # noqa: F403
from nnlib.ops.pairs import pdist as pdist
from nnlib.ops.pooling import *  # noqa: F403
from nnlib.ops.pooling_average import *  # noqa: F403
from nnlib.ops.pooling_fractional import *  # noqa: F403
from nnlib.ops.resize import channel_shuffle as channel_shuffle
from nnlib.ops.resize import interpolate as interpolate
from nnlib.ops.resize import pixel_shuffle as pixel_shuffle
from nnlib.ops.resize import pixel_unshuffle as pixel_unshuffle
from nnlib.ops.softmax import *  # noqa: F403
from nnlib.ops.unfolding import *  # noqa: F403
from nnlib.ops.unpooling import *  # noqa: F403
