"""Single numbers of a loss that stay on CUDA: its mean, the share of each row.

On the CPU they are Python numbers. On CUDA a number that is read stops the host until
the GPU has got there, and CuPy's operations for the same take five launches.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from nnlib.kernels.machinery import cuda, cuda_kernel, empty, on_cuda

__all__ = ["mean_of", "quotient"]


@cuda_kernel(threads=32)
def mean_of_cuda(sums: Any, mean: Any, count: Any) -> None:
    if cuda.grid(1) == 0:
        number = sums[1]
        # Nothing counted: the sum is 0, and so is the mean.
        if number == sums.dtype.type(0):
            number = sums.dtype.type(1)
        mean[0] = sums[0] / number
        count[0] = number


@cuda_kernel(threads=32)
def quotient_cuda(a: Any, b: Any, out: Any) -> None:
    if cuda.grid(1) == 0:
        out[0] = a[0] / b[0]


def mean_of(sums: Any) -> tuple[Any, Any]:
    """Divide a sum by a count.

    Parameters
    ----------
    sums : array, shape (2,), float32 or float64
        The sum and the count.

    Returns
    -------
    mean, count : arrays of shape (), dtype of `sums`
        A count of 0 is returned as 1.

    Examples
    --------
    >>> import numpy as np
    >>> mean_of(np.array([6.0, 4.0]))
    (array(1.5), array(4.))
    """
    if not on_cuda(sums):
        count = sums[1:].reshape(()) if sums[1] else np.ones((), sums.dtype)
        return np.asarray(sums[0] / count), count
    mean, count = empty(sums, (), sums.dtype), empty(sums, (), sums.dtype)
    mean_of_cuda(sums, mean, count, blocks=1, flat=True)
    return mean, count


def quotient(a: Any, b: Any) -> Any:
    """Return ``a / b``, of two arrays of one element and dtype; of the shape of `a`.

    Examples
    --------
    >>> import numpy as np
    >>> quotient(np.array([6.0]), np.array(4.0))
    array([1.5])
    """
    if not on_cuda(a):
        return (a.reshape(-1) / b.reshape(-1)).reshape(a.shape)
    out = empty(a, a.shape, a.dtype)
    quotient_cuda(a, b, out, blocks=1, flat=True)
    return out
