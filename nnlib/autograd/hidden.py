"""Arrays that have a shape and a dtype, and numbers that are not for reading."""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np

from nnlib.backend.errors import Error

__all__ = ["Hidden", "hide_first", "readable"]


class Hidden(np.ndarray[Any, Any]):
    """The array of a tensor inside `vmap`, which stands for the arrays of all samples.

    Its numbers are those of one sample: what is made of them would be the same for
    all. So whatever reads them refuses, and names no result rather than a wrong one.
    """

    def _refuse(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise Error(
            "vmap: this would depend on one sample's numbers; use where() or other "
            "operations on tensors, or call it outside vmap"
        )

    __array__ = __array_function__ = __array_ufunc__ = _refuse
    __bool__ = __float__ = __index__ = __int__ = _refuse
    __getitem__ = __iter__ = _refuse
    argsort = astype = choose = clip = item = nonzero = _refuse
    searchsorted = take = tobytes = tolist = view = _refuse


def hide_first(batch: Any) -> Any:
    """Return the first entry of an array; a `Hidden` one if it is NumPy's."""
    if isinstance(batch, np.ndarray):
        return np.ndarray.view(np.asarray(np.asarray(batch)[0]), Hidden)
    return batch[0]


def readable(array: Any) -> Any:
    """Return `array`; raise if its numbers are not for reading."""
    if type(array) is Hidden:
        array._refuse()
    return array
