"""Modules that hold modules: in a row, in a list, in a dictionary."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Self

from nnlib.backend.errors import DTypeError, ShapeError
from nnlib.nn.module import Module

__all__ = ["ModuleDict", "ModuleList", "Sequential"]


class _Row(Module):
    """Modules under the names "0", "1", ...: what Sequential and ModuleList share."""

    def _check(self, what: str, value: Any) -> None:
        if not isinstance(value, Module):
            raise DTypeError(
                f"{type(self).__name__}: {what}: expected a Module, got "
                f"{type(value).__name__}"
            )

    def _position(self, index: Any) -> int:
        try:
            position = operator.index(index)
        except TypeError:
            raise DTypeError(
                f"{type(self).__name__}: index: expected an integer or a slice, got "
                f"{index!r}"
            ) from None
        if not -len(self) <= position < len(self):
            raise IndexError(
                f"{type(self).__name__}: index {position} is out of range for "
                f"{len(self)} modules"
            )
        return position % len(self)

    def _rename(self, modules: Iterable[Any]) -> None:
        self._modules.clear()
        self._modules.update((str(i), module) for i, module in enumerate(modules))

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[Module]:
        return iter(self._modules.values())

    def __setitem__(self, index: int, module: Module) -> None:
        self._check(f"[{index}]", module)
        self._modules[list(self._modules)[self._position(index)]] = module

    def __delitem__(self, index: int | slice) -> None:
        items = list(self._modules.items())
        if isinstance(index, slice):
            del items[index]
        else:
            del items[self._position(index)]
        self._rename(module for _, module in items)

    def append(self, module: Module) -> Self:
        """Add a module at the end."""
        self._check("append", module)
        self._modules[str(len(self))] = module
        return self

    def extend(self, modules: Iterable[Module]) -> Self:
        """Add several modules at the end."""
        added = list(modules)
        for module in added:
            self._check("extend", module)
        for module in added:
            self.append(module)
        return self

    def insert(self, index: int, module: Module) -> Self:
        """Put a module before the one at `index`."""
        self._check("insert", module)
        if not -len(self) <= index <= len(self):
            raise IndexError(
                f"{type(self).__name__}: index {index} is out of range for "
                f"{len(self)} modules"
            )
        modules = list(self)
        modules.insert(index, module)
        self._rename(modules)
        return self

    def pop(self, index: int = -1) -> Module:
        """Take the module at `index` out and return it."""
        modules = list(self)
        module = modules.pop(self._position(index))
        self._rename(modules)
        return module


class Sequential(_Row):
    """Modules one after the other: each gets the output of the one before.

    Parameters
    ----------
    *args : Module, or one mapping of str to Module
        In order; a mapping gives the names.

    Examples
    --------
    >>> import nnlib
    >>> from nnlib import nn
    >>> model = Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> tuple(model(nnlib.zeros(5, 4)).shape), len(model[:2])
    ((5, 2), 2)
    """

    def __init__(self, *args: Any) -> None:
        super().__init__()
        if len(args) == 1 and isinstance(args[0], Mapping):
            for name, module in args[0].items():
                self.add_module(name, module)
        else:
            for index, module in enumerate(args):
                self.add_module(str(index), module)

    def forward(self, input: Any) -> Any:
        """Return the last module's output."""
        for module in self._modules.values():
            input = module(input)
        return input

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return type(self)._of(list(self._modules.items())[index])
        return list(self)[self._position(index)]

    @staticmethod
    def _of(items: list[tuple[str, Module]]) -> Sequential:
        # Subclasses have constructors of their own: a slice is a plain Sequential.
        return Sequential(dict(items))

    def __delitem__(self, index: int | slice) -> None:
        items = list(self._modules.items())
        numbered = [name for name, _ in items] == [str(i) for i in range(len(items))]
        if numbered:
            super().__delitem__(index)
            return
        chosen = (
            items[index] if isinstance(index, slice) else [items[self._position(index)]]
        )
        for name, _ in chosen:
            del self._modules[name]

    def __add__(self, other: Sequential) -> Sequential:
        if not isinstance(other, Sequential):
            return NotImplemented
        return Sequential(*self, *other)

    def __iadd__(self, other: Sequential) -> Self:
        if not isinstance(other, Sequential):
            return NotImplemented
        return self.extend(other)


class ModuleList(_Row):
    """A list of modules, whose parameters belong to the module that holds it.

    Parameters
    ----------
    modules : iterable of Module, optional
    """

    def __init__(self, modules: Iterable[Module] | None = None) -> None:
        super().__init__()
        if modules is not None:
            self.extend(modules)

    def __getitem__(self, index: int | slice) -> Any:
        modules = list(self)
        if isinstance(index, slice):
            return ModuleList(modules[index])
        return modules[self._position(index)]

    def __setitem__(self, index: int, module: Module) -> None:
        super().__setitem__(index, module)

    def __add__(self, other: Iterable[Module]) -> ModuleList:
        return ModuleList([*self, *other])

    def __iadd__(self, other: Iterable[Module]) -> Self:
        return self.extend(other)


class ModuleDict(Module):
    """A dictionary of modules, in order of insertion.

    Parameters
    ----------
    modules : mapping or iterable of pairs, optional
    """

    def __init__(self, modules: Any = None) -> None:
        super().__init__()
        if modules is not None:
            self.update(modules)

    def update(self, modules: Any) -> None:
        """Take over the entries of a mapping, or of pairs (name, module)."""
        pairs = modules.items() if hasattr(modules, "items") else modules
        for pair in pairs:
            if len(pair) != 2:
                raise ShapeError(
                    f"ModuleDict.update: expected pairs (name, module), got {pair!r}"
                )
            self[pair[0]] = pair[1]

    def __getitem__(self, key: str) -> Any:
        return self._modules[key]

    def __setitem__(self, key: str, module: Module) -> None:
        self.add_module(key, module)

    def __delitem__(self, key: str) -> None:
        del self._modules[key]

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[str]:
        return iter(self._modules)

    def __contains__(self, key: object) -> bool:
        return key in self._modules

    def clear(self) -> None:
        """Remove all modules."""
        self._modules.clear()

    def pop(self, key: str) -> Any:
        """Remove a module and return it."""
        return self._modules.pop(key)

    def keys(self) -> Iterable[str]:
        """Return the names."""
        return self._modules.keys()

    def values(self) -> Iterable[Any]:
        """Return the modules."""
        return self._modules.values()

    def items(self) -> Iterable[tuple[str, Any]]:
        """Return pairs of name and module."""
        return self._modules.items()
