"""SparseAdam: Adam that leaves alone what has no gradient."""

from __future__ import annotations

from typing import Any

from nnlib import kernels
from nnlib.autograd.tensor import Tensor
from nnlib.backend.errors import Error
from nnlib.optim.adam import Moments
from nnlib.optim.batch import Batch

__all__ = ["SparseAdam"]


class SparseAdam(Moments):
    """Adam for row-sparse gradients: rows without a gradient keep their moments.

    At step ``t``, in the rows that the gradient ``g`` names::

        m <- beta1 m + (1 - beta1) g
        v <- beta2 v + (1 - beta2) g^2
        p <- p - lr sqrt(1 - beta2^t) / (1 - beta1^t) m / (sqrt(v) + eps)

    It is not Adam: there the moments of every row decay at every step, and move it.

    Parameters
    ----------
    params : iterable of Tensor or of dict
        Weights of layers with ``sparse=True``.
    lr : float, default 1e-3
    betas : tuple of float, default (0.9, 0.999)
    eps : float, default 1e-8
    maximize : bool, default False
        Ascend instead.

    Raises
    ------
    Error
        At a step, if a gradient is dense.

    Examples
    --------
    >>> import nnlib
    >>> layer = nnlib.nn.Embedding(100, 4, sparse=True)
    >>> optimizer = SparseAdam(layer.parameters(), lr=0.1)
    >>> before = layer.weight[3].detach().clone()
    >>> layer(nnlib.tensor([3])).sum().backward()
    >>> optimizer.step()
    >>> before - layer.weight[3].detach()
    tensor([0.1, 0.1, 0.1, 0.1])
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        maximize: bool = False,
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "eps": eps, "maximize": maximize}
        super().__init__(params, defaults)

    def update(self, batch: Batch, group: dict[str, Any]) -> None:
        """Refuse dense gradients."""
        raise Error(
            "SparseAdam.step: a gradient is dense; make the layer with sparse=True, or "
            "use Adam"
        )

    def update_rows(
        self, p: Tensor, rows: Any, values: Any, group: dict[str, Any]
    ) -> None:
        """Update the rows of one parameter."""
        state = self.state[p]
        state["step"] = step = state.get("step", 0) + 1
        mean, square = self.kept_arrays(p, group)
        kernels.sparse_rows.adam(
            p._array, mean, square, rows, values, step=step, lr=group["lr"],
            betas=group["betas"], eps=group["eps"],
        )  # fmt: skip
