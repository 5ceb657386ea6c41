"""nnlib: neural networks on NumPy and CuPy with hand-written kernels."""

from math import e as e
from math import inf as inf
from math import nan as nan
from math import pi as pi
from typing import TYPE_CHECKING

from nnlib import autograd as autograd
from nnlib import cuda as cuda
from nnlib import linalg as linalg
from nnlib import nn as nn
from nnlib import ops as ops
from nnlib import optim as optim
from nnlib import special as special
from nnlib.autograd.construct import as_tensor as as_tensor
from nnlib.autograd.construct import asarray as asarray
from nnlib.autograd.construct import from_dlpack as from_dlpack
from nnlib.autograd.construct import from_numpy as from_numpy
from nnlib.autograd.construct import is_floating_point as is_floating_point
from nnlib.autograd.construct import is_tensor as is_tensor
from nnlib.autograd.construct import tensor as tensor
from nnlib.autograd.mode import enable_grad as enable_grad
from nnlib.autograd.mode import inference_mode as inference_mode
from nnlib.autograd.mode import is_grad_enabled as is_grad_enabled
from nnlib.autograd.mode import is_inference_mode_enabled as is_inference_mode_enabled
from nnlib.autograd.mode import no_grad as no_grad
from nnlib.autograd.mode import set_grad_enabled as set_grad_enabled
from nnlib.autograd.printing import set_printoptions as set_printoptions
from nnlib.autograd.promotion import result_type as result_type
from nnlib.autograd.tensor import Size as Size
from nnlib.autograd.tensor import Tensor as Tensor
from nnlib.autograd.typed import BoolTensor as BoolTensor
from nnlib.autograd.typed import ByteTensor as ByteTensor
from nnlib.autograd.typed import CharTensor as CharTensor
from nnlib.autograd.typed import DoubleTensor as DoubleTensor
from nnlib.autograd.typed import FloatTensor as FloatTensor
from nnlib.autograd.typed import HalfTensor as HalfTensor
from nnlib.autograd.typed import IntTensor as IntTensor
from nnlib.autograd.typed import LongTensor as LongTensor
from nnlib.autograd.typed import ShortTensor as ShortTensor
from nnlib.backend.device import Device
from nnlib.backend.dtypes import bfloat16 as bfloat16
from nnlib.backend.dtypes import bool_
from nnlib.backend.dtypes import finfo as finfo
from nnlib.backend.dtypes import float16 as float16
from nnlib.backend.dtypes import float32 as float32
from nnlib.backend.dtypes import float64 as float64
from nnlib.backend.dtypes import get_default_dtype as get_default_dtype
from nnlib.backend.dtypes import iinfo as iinfo
from nnlib.backend.dtypes import int8 as int8
from nnlib.backend.dtypes import int16 as int16
from nnlib.backend.dtypes import int32 as int32
from nnlib.backend.dtypes import int64 as int64
from nnlib.backend.dtypes import promote_types as promote_types
from nnlib.backend.dtypes import set_default_dtype as set_default_dtype
from nnlib.backend.dtypes import uint8 as uint8
from nnlib.backend.errors import ArgumentError as ArgumentError
from nnlib.backend.errors import BoundsError as BoundsError
from nnlib.backend.errors import DeviceError as DeviceError
from nnlib.backend.errors import DTypeError as DTypeError
from nnlib.backend.errors import Error as Error
from nnlib.backend.errors import ShapeError as ShapeError
from nnlib.backend.layouts import channels_last as channels_last
from nnlib.backend.layouts import channels_last_3d as channels_last_3d
from nnlib.backend.layouts import contiguous_format as contiguous_format
from nnlib.backend.layouts import preserve_format as preserve_format
from nnlib.backend.random import Generator as Generator
from nnlib.backend.random import default_generator as default_generator
from nnlib.backend.random import initial_seed as initial_seed
from nnlib.backend.random import manual_seed as manual_seed
from nnlib.backend.random import seed as seed
from nnlib.backend.threads import get_num_threads as get_num_threads
from nnlib.backend.threads import set_num_threads as set_num_threads
from nnlib.io import load as load
from nnlib.io import save as save
from nnlib.ops import *  # noqa: F403

if TYPE_CHECKING:
    from nnlib import data as data
    from nnlib import distributions as distributions
    from nnlib import func as func
    from nnlib import kernels as kernels
    from nnlib import models as models
    from nnlib import onnx as onnx
    from nnlib import text as text
    from nnlib import train as train
    from nnlib import utils as utils
    from nnlib import viz as viz
    from nnlib.func import vmap as vmap

device = Device
newaxis = None
get_rng_state = default_generator.get_state
set_rng_state = default_generator.set_state

# PyTorch's short names of dtypes. They hide Python's in this file, so nothing that
# needs those may follow.
bool = bool_
half = float16
float = float32
double = float64
short = int16
int = int32
long = int64

# Loaded when first named: they import what a model alone does not need.
_LAZY = (
    "data",
    "distributions",
    "func",
    "kernels",
    "models",
    "onnx",
    "text",
    "train",
    "utils",
    "viz",
)


def __getattr__(name: str) -> object:
    """Import a room at its first use; return the installed version."""
    import importlib

    if name in _LAZY:
        return importlib.import_module(f"nnlib.{name}")
    if name == "vmap":
        return importlib.import_module("nnlib.func").vmap
    if name == "__version__":
        import importlib.metadata

        return importlib.metadata.version("nnlib-dl")
    raise AttributeError(f"module 'nnlib' has no attribute {name!r}")
