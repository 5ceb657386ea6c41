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

__all__ = [
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
