"""Containers of parameters: a list and a dictionary."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Self

from nnlib.autograd.tensor import Parameter, Tensor
from nnlib.backend.errors import DTypeError
from nnlib.nn.module import Module

__all__ = ["Parameter", "ParameterDict", "ParameterList"]


def _as_parameter(owner: str, value: Any) -> Parameter:
    if isinstance(value, Parameter):
        return value
    if isinstance(value, Tensor):
        return Parameter(value)
    raise DTypeError(
        f"{owner}: expected a Parameter or Tensor, got {type(value).__name__}"
    )


def _describe(name: str, value: Parameter) -> str:
    shape = "x".join(map(str, value.shape))
    place = "" if not value.is_cuda else f" ({value.device})"
    return f"({name}): Parameter of shape {shape or '()'}, {value.dtype}{place}"


class ParameterList(Module):
    """A list of parameters that belong to the module that holds it.

    Parameters
    ----------
    values : iterable of Parameter or Tensor, optional
        Tensors become parameters on the same memory.
    """

    def __init__(self, values: Iterable[Any] | None = None) -> None:
        super().__init__()
        if values is not None:
            self.extend(values)

    def __len__(self) -> int:
        return len(self._parameters)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._parameters.values())

    def __getitem__(self, index: int | slice) -> Any:
        values = list(self)
        return (
            ParameterList(values[index]) if isinstance(index, slice) else values[index]
        )

    def __setitem__(self, index: int, value: Any) -> None:
        name = list(self._parameters)[index]
        self._parameters[name] = _as_parameter("ParameterList", value)

    def append(self, value: Any) -> Self:
        """Add a parameter at the end."""
        self._parameters[str(len(self))] = _as_parameter("ParameterList", value)
        return self

    def extend(self, values: Iterable[Any]) -> Self:
        """Add several parameters at the end."""
        for value in [_as_parameter("ParameterList", value) for value in values]:
            self.append(value)
        return self

    def __iadd__(self, values: Iterable[Any]) -> Self:
        return self.extend(values)

    def extra_repr(self) -> str:
        """Return a line for each parameter."""
        return "\n".join(
            _describe(name, value)
            for name, value in self._parameters.items()
            if value is not None
        )


class ParameterDict(Module):
    """A dictionary of parameters, in order of insertion.

    Parameters
    ----------
    parameters : mapping or iterable of pairs, optional
    """

    def __init__(self, parameters: Any = None) -> None:
        super().__init__()
        if parameters is not None:
            self.update(parameters)

    def update(self, parameters: Any) -> None:
        """Take over the entries of a mapping, or of pairs (name, parameter)."""
        pairs = parameters.items() if hasattr(parameters, "items") else parameters
        for name, value in pairs:
            self[name] = value

    def __getitem__(self, key: str) -> Any:
        return self._parameters[key]

    def __setitem__(self, key: str, value: Any) -> None:
        self.register_parameter(key, _as_parameter("ParameterDict", value))

    def __delitem__(self, key: str) -> None:
        del self._parameters[key]

    def __len__(self) -> int:
        return len(self._parameters)

    def __iter__(self) -> Iterator[str]:
        return iter(self._parameters)

    def __contains__(self, key: object) -> bool:
        return key in self._parameters

    def get(self, key: str, default: Any = None) -> Any:
        """Return a parameter, or `default` where there is none."""
        return self._parameters.get(key, default)

    def pop(self, key: str) -> Any:
        """Remove a parameter and return it."""
        return self._parameters.pop(key)

    def clear(self) -> None:
        """Remove all parameters."""
        self._parameters.clear()

    def keys(self) -> Iterable[str]:
        """Return the names."""
        return self._parameters.keys()

    def values(self) -> Iterable[Any]:
        """Return the parameters."""
        return self._parameters.values()

    def items(self) -> Iterable[tuple[str, Any]]:
        """Return pairs of name and parameter."""
        return self._parameters.items()

    def extra_repr(self) -> str:
        """Return a line for each parameter."""
        return "\n".join(
            _describe(name, value)
            for name, value in self._parameters.items()
            if value is not None
        )
