"""Training: `fit`, `evaluate`, metrics, callbacks, the history of a run."""

from nnlib.train.adversarial import (
    discriminator_loss,
    fit_gan,
    generator_loss,
    gradient_penalty,
)
from nnlib.train.callbacks import Callback, EarlyStopping, Run
from nnlib.train.fit import evaluate, fit, predict
from nnlib.train.history import DivergenceError, History
from nnlib.train.metrics import accuracy, binary_accuracy
from nnlib.train.pretraining import pretrain_stack
from nnlib.train.transfer import (
    GradualUnfreezing,
    extract_features,
    freeze,
    layer_groups,
    unfreeze,
)

__all__ = [
    "GradualUnfreezing",
    "extract_features",
    "freeze",
    "layer_groups",
    "pretrain_stack",
    "unfreeze",
    "Callback",
    "DivergenceError",
    "EarlyStopping",
    "History",
    "Run",
    "accuracy",
    "binary_accuracy",
    "discriminator_loss",
    "evaluate",
    "fit",
    "fit_gan",
    "generator_loss",
    "gradient_penalty",
    "predict",
]
