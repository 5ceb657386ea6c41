"""Initial values that the models of this folder share."""

from __future__ import annotations

from nnlib import nn

__all__ = ["kaiming"]


def kaiming(model: nn.Module, mode: str = "fan_out", linear: float = 0.0) -> None:
    """Draw the convolutions of a model by He's rule and clear their biases.

    K. He et al.: Delving deep into rectifiers, ICCV 2015, equation 10: N(0, 2 / fan).

    Parameters
    ----------
    model : Module
        Changed in place.
    mode : {"fan_out", "fan_in"}
        The outputs or the inputs of a filter keep their variance.
    linear : float, default 0.0
        If not 0, the standard deviation of the weights of the linear layers, whose
        biases are cleared too; otherwise linear layers stay as they were made.
    """
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode=mode, nonlinearity="relu")
        elif isinstance(layer, nn.Linear) and linear:
            nn.init.normal_(layer.weight, 0.0, linear)
        else:
            continue
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
