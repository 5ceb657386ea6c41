"""One `Case` per public operation: what `test_ops.py` needs to check it.

A case says how to draw inputs, what the result should be (NumPy, float64) and how
PyTorch spells the same call. From that the tests derive: values in float64 against
the reference and PyTorch, float32 and the 16-bit floats within their tolerance,
first and second derivatives by finite differences and first derivatives against
PyTorch, non-contiguous and empty input, agreement of function and method.

    CASES = [
        Case("exp", samples=[floats(3, 4), floats(2, 1, 3)], reference=np.exp),
        Case(
            "sum",
            samples=[Sample((normal(3, 4),), {"dim": 1, "keepdim": True})],
            reference=lambda x, dim, keepdim: x.sum(axis=dim, keepdims=keepdim),
        ),
    ]
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import nnlib

RNG = np.random.default_rng(20240611)


def normal(*shape: int, scale: float = 1.0) -> np.ndarray:
    """Draw normal float64 values of `shape`."""
    return RNG.standard_normal(shape) * scale


def positive(*shape: int, low: float = 0.3, high: float = 2.5) -> np.ndarray:
    """Draw values between `low` and `high`."""
    return RNG.uniform(low, high, shape)


def away_from(*shape: int, kinks: Sequence[float] = (0.0,), gap: float = 0.1) -> Any:
    """Draw normal values at least `gap` away from each point where a slope jumps."""
    x = RNG.standard_normal(shape) * 2
    for kink in kinks:
        near = np.abs(x - kink) < gap
        x = np.where(near, kink + np.where(x >= kink, 2 * gap, -2 * gap), x)
    return x


def distinct(*shape: int) -> np.ndarray:
    """Draw values that differ by at least 0.1, in random order (for max, sort)."""
    count = int(np.prod(shape))
    return (RNG.permutation(count).reshape(shape) - count / 2) * 0.1


def integers(*shape: int, low: int = 0, high: int = 5) -> np.ndarray:
    """Draw int64 values in ``[low, high)``."""
    return RNG.integers(low, high, shape)


def booleans(*shape: int) -> np.ndarray:
    """Draw random booleans."""
    return RNG.random(shape) < 0.5


@dataclass
class Sample:
    """One call: positional arguments (arrays become Tensors) and keywords."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any] = field(default_factory=dict)


@dataclass
class Case:
    """What to check about one public operation.

    Attributes
    ----------
    name : str
        Its name in `nnlib.autograd.registry.OPS`.
    samples : list of Sample, tuple or array
        A tuple is positional arguments; an array is a single argument. Float arrays
        are float64 here and are cast as each check needs. Lists of arrays become
        lists of Tensors.
    reference : callable, optional
        ``reference(*arrays, **kwargs)`` in NumPy, on float64; array or tuple.
    torch : str or callable or None
        PyTorch's counterpart: a dotted name under ``torch`` (default: the op's name
        at the top level), a callable given ``(torch, *tensors, **kwargs)``, or None.
    call : callable, optional
        How to call the op, if not as ``nnlib.<name>(*args, **kwargs)``.
    grad, second : bool
        Whether to check first and second derivatives by finite differences.
    half : bool
        Whether 16-bit floats are checked.
    rtol32, atol32 : float
        Tolerance of float32 against float64.
    empty : bool
        Whether the first sample, with each leading dimension cut to zero, must give
        the reference's (empty) result.
    method : bool
        Whether the Tensor method must agree with the function.
    errors : list of (callable, exception, pattern)
        Bad calls and the message they must give.
    """

    name: str
    samples: list[Any]
    reference: Callable[..., Any] | None = None
    torch: Any = ""
    call: Callable[..., Any] | None = None
    grad: bool = True
    second: bool = True
    half: bool = True
    rtol32: float = 1e-5
    atol32: float = 1e-5
    empty: bool = True
    method: bool = True
    errors: list[tuple[Callable[[], Any], type[Exception], str]] = field(
        default_factory=list
    )

    def __post_init__(self) -> None:
        self.samples = [as_sample(sample) for sample in self.samples]

    def run(self, *args: Any, **kwargs: Any) -> Any:
        """Call the operation."""
        if self.call is not None:
            return self.call(*args, **kwargs)
        return public_function(self.name)(*args, **kwargs)

    def __str__(self) -> str:
        return self.name


def as_sample(sample: Any) -> Sample:
    """Read the short forms of a sample."""
    if isinstance(sample, Sample):
        return sample
    return Sample(sample if isinstance(sample, tuple) else (sample,))


def public_function(name: str) -> Callable[..., Any]:
    """Return a public operation by its registered name."""
    return nnlib.autograd.registry.OPS[name].function


def map_arrays(function: Callable[[np.ndarray], Any], value: Any) -> Any:
    """Apply `function` to every array in (nested) arguments."""
    if isinstance(value, np.ndarray):
        return function(value)
    if isinstance(value, list | tuple):
        return type(value)(map_arrays(function, item) for item in value)
    if isinstance(value, dict):
        return {key: map_arrays(function, item) for key, item in value.items()}
    return value


def as_tensors(value: Any, dtype: Any = None, requires_grad: bool = False) -> Any:
    """Turn arrays into Tensors, floats as `dtype` (and as leaves)."""

    def convert(array: np.ndarray) -> nnlib.Tensor:
        floating = array.dtype.kind == "f"
        made = nnlib.tensor(array, dtype=dtype if floating else None)
        return made.requires_grad_() if requires_grad and floating else made

    return map_arrays(convert, value)


def outputs(value: Any) -> list[Any]:
    """Flatten a result into a list of Tensors, arrays or numbers."""
    if isinstance(value, tuple | list):
        return [item for part in value for item in outputs(part)]
    return [value]


def to_numpy(value: Any) -> np.ndarray:
    """Return a Tensor, torch tensor or number as a NumPy array."""
    if isinstance(value, nnlib.Tensor):
        array = value.detach().numpy()
        return array.astype(np.float32) if array.dtype.kind == "V" else array
    if hasattr(value, "detach"):
        value = value.detach()
        if str(value.dtype) == "torch.bfloat16":
            value = value.float()
        return value.resolve_conj().resolve_neg().numpy()
    return np.asarray(value)


def torch_call(case: Case, torch: Any, args: Any, kwargs: Any) -> Any:
    """Call PyTorch's counterpart of `case`."""
    if callable(case.torch):
        return case.torch(torch, *args, **kwargs)
    target = torch
    for part in (case.torch or case.name).split("."):
        target = getattr(target, part)
    return target(*args, **kwargs)
