"""Ready architectures, built from the layers of `nnlib.nn`."""

from nnlib.models.alexnet import AlexNet
from nnlib.models.lenet import LeNet5
from nnlib.models.mlp import MLP

__all__ = ["MLP", "AlexNet", "LeNet5"]
