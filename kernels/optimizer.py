"""Fused updates of optimisers: one kernel call over all parameters of a group.

Each rule is one scalar function of `update_rules`; `multi_tensor` makes the loops. The
formulas are PyTorch's, operation by operation, with the corrections that depend on the
step alone worked out beforehand in Python's floats.

How to call one::

    table = ParameterTable(params, [exp_avg, exp_avg_sq])   # once
    table.set_gradients(grads)                              # at every step
    adam(table, step, lr=1e-3, betas=(0.9, 0.999), eps=1e-8)

`weight_decay` is an L2 penalty added to the gradient, `l1` the factor of an L1 penalty
(the sign of 0 is 0), and with `maximize` the gradient is negated before both.
"""

from __future__ import annotations

import math

from nnlib.backend.errors import ShapeError
from nnlib.kernels.multi_tensor import ParameterTable, Update
from nnlib.kernels.update_rules import (
    adadelta_at,
    adagrad_at,
    adam_at,
    adamax_at,
    amsgrad_at,
    asgd_at,
    momentum_at,
    nadam_at,
    radam_at,
    rmsprop_at,
    rmsprop_centred_at,
    rprop_at,
    sgd_at,
)

__all__ = [
    "ParameterTable",
    "adadelta",
    "adagrad",
    "adam",
    "adamax",
    "asgd",
    "nadam",
    "radam",
    "rmsprop",
    "rprop",
    "sgd",
]

_sgd = Update(sgd_at, 0)
_momentum = Update(momentum_at, 1)
_adam = Update(adam_at, 2)
_amsgrad = Update(amsgrad_at, 3)
_nadam = Update(nadam_at, 2)
_radam = Update(radam_at, 2)
_adamax = Update(adamax_at, 2)
_adagrad = Update(adagrad_at, 1)
_adadelta = Update(adadelta_at, 2)
_rprop = Update(rprop_at, 2)
_asgd = Update(asgd_at, 1)
_rmsprop = {1: Update(rmsprop_at, 1), 2: Update(rmsprop_at, 2)}
_rmsprop_centred = {2: Update(rmsprop_centred_at, 2), 3: Update(rmsprop_centred_at, 3)}


def sgd(
    table: ParameterTable,
    *,
    lr: float,
    momentum: float = 0.0,
    dampening: float = 0.0,
    nesterov: bool = False,
    first: bool = False,
    weight_decay: float = 0.0,
    l1: float = 0.0,
    maximize: bool = False,
) -> None:
    """Stochastic gradient descent (Sutskever et al. 2013 for the momentum).

    ``b = momentum * b + (1 - dampening) * g; p -= lr * b``, with Nesterov
    ``p -= lr * (g + momentum * b)``.

    Parameters
    ----------
    table : ParameterTable
        Without kept arrays, or with one: the momentum buffers.
    first : bool
        Set the buffers to the gradient: the first step of PyTorch.

    Examples
    --------
    >>> import numpy as np
    >>> p = np.ones(2)
    >>> table = ParameterTable([p])
    >>> table.set_gradients([np.array([1.0, 2.0])])
    >>> sgd(table, lr=0.1)
    >>> p
    array([0.9, 0.8])
    """
    sign = -1.0 if maximize else 1.0
    if len(table.kept) == 1:
        _sgd(table, sign, weight_decay, l1, lr)
        return
    _momentum(
        table, sign, weight_decay, l1, lr, momentum, 1.0 - dampening, nesterov, first
    )


def _penalties(
    lr: float, weight_decay: float, l1: float, maximize: bool, decoupled: bool
) -> tuple[float, float, float, float]:
    """Return sign, decay, l1 and shrink, as `moments` reads them."""
    sign = -1.0 if maximize else 1.0
    if decoupled:
        return sign, 0.0, l1, 1.0 - lr * weight_decay
    return sign, weight_decay, l1, 1.0


def adam(
    table: ParameterTable,
    step: int,
    *,
    lr: float,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    l1: float = 0.0,
    maximize: bool = False,
    decoupled: bool = False,
    bias_correction: bool = True,
) -> None:
    """Adam (Kingma and Ba 2015), AdamW and AMSGrad.

    ``p -= lr * m_hat / (sqrt(v_hat) + eps)``.

    Parameters
    ----------
    table : ParameterTable
        Kept arrays: the first and second moments, and for AMSGrad (Reddi et al. 2018)
        the largest second moment.
    step : int
        The number of this step, from 1.
    decoupled : bool
        Weight decay apart from the gradient (AdamW, Loshchilov and Hutter 2019).
    bias_correction : bool
        False leaves the moments as they are: the textbook form.
    """
    beta1, beta2 = betas
    size, root = lr, 1.0
    if bias_correction:
        size = lr / (1.0 - beta1**step)
        root = math.sqrt(1.0 - beta2**step)
    update = _adam if len(table.kept) == 3 else _amsgrad
    update(
        table, *_penalties(lr, weight_decay, l1, maximize, decoupled), 1.0 - beta1,
        beta2, 1.0 - beta2, root, eps, size,
    )  # fmt: skip


def nadam(
    table: ParameterTable,
    step: int,
    *,
    lr: float,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    momentum_decay: float = 4e-3,
    mu_product: float,
    weight_decay: float = 0.0,
    l1: float = 0.0,
    maximize: bool = False,
    decoupled: bool = False,
) -> float:
    """NAdam: Adam with Nesterov's momentum (Dozat 2016).

    Parameters
    ----------
    table : ParameterTable
        Kept arrays: the first and second moments.
    step : int
        The number of this step, from 1.
    mu_product : float
        What the step before returned; 1 at the first.

    Returns
    -------
    float
        The product of the momentum factors so far.
    """
    beta1, beta2 = betas
    mu = beta1 * (1.0 - 0.5 * 0.96 ** (step * momentum_decay))
    following = beta1 * (1.0 - 0.5 * 0.96 ** ((step + 1) * momentum_decay))
    mu_product *= mu
    _nadam(
        table, *_penalties(lr, weight_decay, l1, maximize, decoupled), 1.0 - beta1,
        beta2, 1.0 - beta2, 1.0 - beta2**step, eps,
        lr * (1.0 - mu) / (1.0 - mu_product),
        lr * following / (1.0 - mu_product * following),
    )  # fmt: skip
    return mu_product


def radam(
    table: ParameterTable,
    step: int,
    *,
    lr: float,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    l1: float = 0.0,
    maximize: bool = False,
    decoupled: bool = False,
) -> None:
    """Rectified Adam (Liu et al. 2020): plain momentum until the variance is known.

    Parameters
    ----------
    table : ParameterTable
        Kept arrays: the first and second moments.
    step : int
        The number of this step, from 1.
    """
    beta1, beta2 = betas
    decay = beta2**step
    longest = 2.0 / (1.0 - beta2) - 1.0
    length = longest - 2.0 * step * decay / (1.0 - decay)
    size = lr / (1.0 - beta1**step)
    rectified = length > 5.0
    if rectified:
        size *= math.sqrt(
            (length - 4.0) * (length - 2.0) * longest
            / ((longest - 4.0) * (longest - 2.0) * length)
        )  # fmt: skip
    _radam(
        table, *_penalties(lr, weight_decay, l1, maximize, decoupled), 1.0 - beta1,
        beta2, 1.0 - beta2, math.sqrt(1.0 - decay), eps, size, rectified,
    )  # fmt: skip


def adamax(
    table: ParameterTable,
    step: int,
    *,
    lr: float,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    l1: float = 0.0,
    maximize: bool = False,
) -> None:
    """Adamax (Kingma and Ba 2015, section 7.1).

    ``u = max(beta2 * u, |g| + eps); p -= lr / (1 - beta1**step) * m / u``.

    Parameters
    ----------
    table : ParameterTable
        Kept arrays: the first moment and the norm u.
    step : int
        The number of this step, from 1.
    """
    beta1, beta2 = betas
    sign = -1.0 if maximize else 1.0
    size = lr / (1.0 - beta1**step)
    _adamax(table, sign, weight_decay, l1, 1.0 - beta1, beta2, eps, size)


def adagrad(
    table: ParameterTable,
    step: int,
    *,
    lr: float,
    lr_decay: float = 0.0,
    eps: float = 1e-10,
    weight_decay: float = 0.0,
    l1: float = 0.0,
    maximize: bool = False,
) -> None:
    """Adagrad (Duchi et al. 2011).

    ``s += g * g; p -= lr / (1 + (step - 1) * lr_decay) * g / (sqrt(s) + eps)``.

    Parameters
    ----------
    table : ParameterTable
        Kept array: the sum of squares.
    step : int
        The number of this step, from 1.
    """
    sign = -1.0 if maximize else 1.0
    size = lr / (1.0 + (step - 1) * lr_decay)
    _adagrad(table, sign, weight_decay, l1, size, eps)


def adadelta(
    table: ParameterTable,
    *,
    lr: float = 1.0,
    rho: float = 0.9,
    eps: float = 1e-6,
    weight_decay: float = 0.0,
    l1: float = 0.0,
    maximize: bool = False,
) -> None:
    """Adadelta (Zeiler 2012).

    Parameters
    ----------
    table : ParameterTable
        Kept arrays: the mean squares of the gradients and of the changes.
    """
    sign = -1.0 if maximize else 1.0
    _adadelta(table, sign, weight_decay, l1, lr, rho, 1.0 - rho, eps)


def rmsprop(
    table: ParameterTable,
    *,
    lr: float,
    alpha: float = 0.99,
    eps: float = 1e-8,
    momentum: float = 0.0,
    centered: bool = False,
    weight_decay: float = 0.0,
    l1: float = 0.0,
    maximize: bool = False,
) -> None:
    """RMSprop (Tieleman and Hinton 2012), centred (Graves 2013) if asked for.

    Parameters
    ----------
    table : ParameterTable
        Kept arrays: the mean square; with `centered` the mean gradient; and where there
        is momentum its buffer.
    """
    sign = -1.0 if maximize else 1.0
    rules = _rmsprop_centred if centered else _rmsprop
    update = rules.get(len(table.kept) - 1)
    if update is None:
        raise ShapeError(
            f"rmsprop: the table has {len(table.kept) - 1} kept arrays for each "
            f"parameter, expected {' or '.join(map(str, rules))}"
        )
    update(table, sign, weight_decay, l1, lr, alpha, 1.0 - alpha, eps, momentum)


def rprop(
    table: ParameterTable,
    *,
    etas: tuple[float, float] = (0.5, 1.2),
    step_sizes: tuple[float, float] = (1e-6, 50.0),
    l1: float = 0.0,
    maximize: bool = False,
) -> None:
    """Rprop (Riedmiller and Braun 1993), its form without weight backtracking.

    An element's step grows by ``etas[1]`` while its gradient keeps its sign; where the
    sign has changed it shrinks by ``etas[0]``, and the element rests for a step.

    Parameters
    ----------
    table : ParameterTable
        Kept arrays: the gradient before (0 where the element rested) and the step.
    """
    sign = -1.0 if maximize else 1.0
    _rprop(table, sign, 0.0, l1, *etas, *step_sizes)


def asgd(
    table: ParameterTable,
    step: int,
    *,
    lr: float,
    eta: float,
    mu: float,
    lambd: float = 1e-4,
    alpha: float = 0.75,
    t0: float = 1e6,
    weight_decay: float = 0.0,
    l1: float = 0.0,
    maximize: bool = False,
) -> tuple[float, float]:
    """Averaged stochastic gradient descent (Polyak and Juditsky 1992).

    ``p = p (1 - lambd eta) - eta g; ax += (p - ax) mu``.

    Parameters
    ----------
    table : ParameterTable
        Kept array: the average ax.
    step : int
        The number of this step, from 1.
    eta, mu : float
        What the step before returned; `lr` and 1 at the first.

    Returns
    -------
    tuple of float
        ``lr / (1 + lambd lr step)^alpha`` and ``1 / max(1, step - t0)``.
    """
    sign = -1.0 if maximize else 1.0
    _asgd(table, sign, weight_decay, l1, 1.0 - lambd * eta, eta, mu)
    return lr / (1.0 + lambd * lr * step) ** alpha, 1.0 / max(1.0, step - t0)
