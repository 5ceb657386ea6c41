"""Optimisers and schedules; names, defaults and formulas are PyTorch's."""

from nnlib.optim import lr_scheduler as lr_scheduler
from nnlib.optim import swa_utils as swa_utils
from nnlib.optim.adadelta import Adadelta
from nnlib.optim.adafactor import Adafactor
from nnlib.optim.adagrad import Adagrad
from nnlib.optim.adam import Adam, AdamW
from nnlib.optim.adam_kin import Adamax, NAdam, RAdam
from nnlib.optim.asgd import ASGD
from nnlib.optim.lbfgs import LBFGS
from nnlib.optim.muon import Muon
from nnlib.optim.optimizer import Optimizer
from nnlib.optim.rmsprop import RMSprop
from nnlib.optim.rprop import Rprop
from nnlib.optim.sgd import SGD
from nnlib.optim.sparse_adam import SparseAdam

__all__ = [
    "ASGD",
    "LBFGS",
    "SGD",
    "Adadelta",
    "Adafactor",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "Muon",
    "NAdam",
    "Optimizer",
    "RAdam",
    "RMSprop",
    "Rprop",
    "SparseAdam",
    "lr_scheduler",
    "swa_utils",
]
