"""Terms added to an autoencoder's loss that shape its codes."""

from __future__ import annotations

from collections.abc import Callable

from nnlib.autograd import grad
from nnlib.autograd.mode import enable_grad
from nnlib.autograd.tensor import Tensor
from nnlib.backend.errors import ArgumentError, ShapeError
from nnlib.backend.random import Generator
from nnlib.ops import randn

__all__ = ["contractive_penalty", "kl_activity", "l1_activity"]


def l1_activity(codes: Tensor) -> Tensor:
    """Return the sum of a code's absolute values, averaged over the batch.

    Parameters
    ----------
    codes : Tensor, shape (N, ...)

    Examples
    --------
    >>> import nnlib
    >>> l1_activity(nnlib.tensor([[1.0, -2.0], [0.0, 3.0]]))
    tensor(3.)
    """
    return codes.abs().sum() / max(1, codes.shape[0])


def kl_activity(codes: Tensor, rate: float = 0.05, eps: float = 1e-6) -> Tensor:
    """Return how far each unit's mean activity is from `rate`, summed over units.

    ``rate log(rate / m) + (1 - rate) log((1 - rate) / (1 - m))`` with m the unit's mean
    over the batch (A. Ng: Sparse autoencoder, lecture notes, 2011).

    Parameters
    ----------
    codes : Tensor, shape (N, K), values from 0 to 1
        After a sigmoid.
    rate : float, default 0.05
        The activity that is wanted, between 0 and 1.
    eps : float
        Means are kept that far from 0 and 1.

    Raises
    ------
    ArgumentError
        If `rate` is not between 0 and 1.

    Examples
    --------
    >>> import nnlib
    >>> kl_activity(nnlib.full((4, 3), 0.05))
    tensor(0.)
    """
    if not 0 < rate < 1:
        raise ArgumentError(
            f"kl_activity: rate: expected a number between 0 and 1, got {rate}"
        )
    mean = codes.mean(0).clamp(eps, 1 - eps)
    on = rate * (rate / mean).log()
    off = (1 - rate) * ((1 - rate) / (1 - mean)).log()
    return (on + off).sum()


def contractive_penalty(
    encode: Callable[[Tensor], Tensor],
    input: Tensor,
    *,
    projections: int | None = None,
    generator: Generator | None = None,
) -> Tensor:
    """Return the squared norm of the codes' Jacobian, averaged over the batch.

    ``sum_jk (d code_j / d input_k)^2``: small where the codes hardly move with the
    input (S. Rifai et al.: Contractive auto-encoders, 2011). It can be differentiated,
    so that it can be added to a loss.

    Parameters
    ----------
    encode : callable
        From inputs (N, ...) to codes (N, K); no sample may see another.
    input : Tensor, shape (N, ...)
    projections : int, optional
        Estimate it, without bias, from that many random directions instead of one
        backward pass for each of the K codes (M. F. Hutchinson, 1990).
    generator : Generator, optional

    Examples
    --------
    >>> import nnlib
    >>> layer = nnlib.nn.Linear(4, 2, bias=False)
    >>> value = contractive_penalty(layer, nnlib.zeros(3, 4))
    >>> bool(nnlib.isclose(value, layer.weight.square().sum()))
    True
    """
    if projections is not None and projections < 1:
        raise ArgumentError(
            f"contractive_penalty: projections: expected at least 1, got {projections}"
        )
    inputs = input.detach().requires_grad_()
    with enable_grad():
        codes = encode(inputs)
        if codes.ndim != 2 or codes.shape[0] != input.shape[0]:
            raise ShapeError(
                f"contractive_penalty: codes: expected shape ({input.shape[0]}, K), "
                f"got {tuple(codes.shape)}"
            )
        if projections is None:
            sums = [codes[:, j].sum() for j in range(codes.shape[1])]
        else:
            kind, place = codes.dtype, codes.device
            sums = [
                codes.mul(
                    randn(codes.shape, dtype=kind, device=place, generator=generator)
                ).sum()
                for _ in range(projections)
            ]
        total = sum(
            grad(one, inputs, create_graph=True)[0].square().sum() for one in sums
        )
        result: Tensor = total / ((projections or 1) * max(1, input.shape[0]))
        return result
