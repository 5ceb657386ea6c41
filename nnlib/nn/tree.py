"""The tree of modules: what is registered under which name, and how it is found."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from nnlib.autograd.tensor import Parameter, Tensor
from nnlib.backend.errors import ArgumentError, DTypeError, Error

if TYPE_CHECKING:
    from nnlib.nn.module import Module

__all__ = ["ModuleTree"]


class ModuleTree:
    """The part of `Module` that keeps parameters, buffers and sub-modules."""

    _parameters: dict[str, Parameter | None]
    _buffers: dict[str, Tensor | None]
    _modules: dict[str, Any]
    _non_persistent_buffers_set: set[str]

    def __init__(self) -> None:
        # Straight into __dict__: __setattr__ needs these to exist.
        own = self.__dict__
        own["training"] = True
        own["_parameters"] = {}
        own["_buffers"] = {}
        own["_non_persistent_buffers_set"] = set()
        own["_modules"] = {}

    def __setattr__(self, name: str, value: Any) -> None:
        own = self.__dict__
        if "_parameters" not in own:
            if isinstance(value, Parameter | ModuleTree):
                raise Error(
                    f"{type(self).__name__}: call super().__init__() before assigning "
                    f"{name!r}"
                )
            object.__setattr__(self, name, value)
        elif isinstance(value, Parameter):
            self._forget(name, but="_parameters")
            own["_parameters"][name] = value
        elif isinstance(value, ModuleTree):
            self._forget(name, but="_modules")
            own["_modules"][name] = value
        elif name in own["_parameters"]:
            self._check_kind(name, value, "parameter", "Parameter")
            own["_parameters"][name] = None
        elif name in own["_modules"]:
            self._check_kind(name, value, "sub-module", "Module")
            own["_modules"][name] = None
        elif name in own["_buffers"]:
            if not isinstance(value, Tensor):
                self._check_kind(name, value, "buffer", "Tensor")
            own["_buffers"][name] = value
        elif isinstance(value, Tensor) and self._computed(name) is not None:
            self._computed(name).assign(value)
        else:
            object.__setattr__(self, name, value)

    def _check_kind(self, name: str, value: Any, kind: str, expected: str) -> None:
        if value is not None:
            raise DTypeError(
                f"{type(self).__name__}: {kind} {name!r}: expected a {expected} or "
                f"None, got {type(value).__name__}"
            )

    def _forget(self, name: str, but: str) -> None:
        own = self.__dict__
        own.pop(name, None)
        for kind in ("_parameters", "_buffers", "_modules"):
            if kind != but:
                own[kind].pop(name, None)
        own["_non_persistent_buffers_set"].discard(name)

    def __getattr__(self, name: str) -> Any:
        own = self.__dict__
        for kind in ("_parameters", "_modules", "_buffers"):
            members = own.get(kind)
            if members is not None and name in members:
                return members[name]
        computed = self._computed(name)
        if computed is not None:
            return computed()
        raise AttributeError(f"{type(self).__name__!r} has no attribute {name!r}")

    def _computed(self, name: str) -> Any:
        """Return what computes a parametrised tensor (`nn.utils.parametrize`)."""
        table = self.__dict__.get("_modules", {}).get("parametrizations")
        if isinstance(table, ModuleTree) and name in table._modules:
            return table._modules[name]
        return None

    def __delattr__(self, name: str) -> None:
        for kind in ("_parameters", "_buffers", "_modules"):
            if name in self.__dict__.get(kind, ()):
                del self.__dict__[kind][name]
                self._non_persistent_buffers_set.discard(name)
                return
        object.__delattr__(self, name)

    def __dir__(self) -> list[str]:
        names = set(super().__dir__())
        names.update(self._parameters, self._buffers, self._modules)
        return sorted(name for name in names if not name[:1].isdigit())

    def _check_name(self, kind: str, name: str) -> None:
        where = f"{type(self).__name__}.register_{kind}"
        if not isinstance(name, str):
            raise DTypeError(f"{where}: name: expected a str, got {name!r}")
        if not name or "." in name:
            raise ArgumentError(
                f"{where}: name: expected a name that is not empty and holds no dot, "
                f"got {name!r}"
            )
        known = self._parameters | self._buffers | self._modules
        if name not in known and hasattr(self, name):
            raise Error(f"{where}: there is an attribute {name!r} already")

    def register_parameter(self, name: str, param: Parameter | None) -> None:
        """Register a parameter, or None to keep its name.

        Raises
        ------
        DTypeError
            If `param` is no Parameter.
        Error
            If the name is taken, empty or holds a dot.
        """
        self._check_name("parameter", name)
        if param is not None and not isinstance(param, Parameter):
            raise DTypeError(
                f"{type(self).__name__}.register_parameter: {name!r}: expected a "
                f"Parameter or None, got {type(param).__name__}"
            )
        self._forget(name, but="_parameters")
        self._parameters[name] = param

    def register_buffer(
        self, name: str, tensor: Tensor | None, persistent: bool = True
    ) -> None:
        """Register a tensor that is state but is not trained.

        Parameters
        ----------
        name : str
        tensor : Tensor or None
        persistent : bool, default True
            Whether it is part of the `state_dict`.
        """
        self._check_name("buffer", name)
        if tensor is not None and not isinstance(tensor, Tensor):
            raise DTypeError(
                f"{type(self).__name__}.register_buffer: {name!r}: expected a Tensor "
                f"or None, got {type(tensor).__name__}"
            )
        self._forget(name, but="_buffers")
        self._buffers[name] = tensor
        if not persistent:
            self._non_persistent_buffers_set.add(name)

    def add_module(self, name: str, module: Module | None) -> None:
        """Register a sub-module under a name (also as ``register_module``)."""
        self._check_name("module", name)
        if module is not None and not isinstance(module, ModuleTree):
            raise DTypeError(
                f"{type(self).__name__}.add_module: {name!r}: expected a Module or "
                f"None, got {type(module).__name__}"
            )
        self._forget(name, but="_modules")
        self._modules[name] = module

    register_module = add_module

    # -- members -----------------------------------------------------------------

    def named_modules(
        self,
        memo: set[int] | None = None,
        prefix: str = "",
        remove_duplicate: bool = True,
    ) -> Iterator[tuple[str, Module]]:
        """Iterate over this module and all below, with dotted names."""
        seen = set() if memo is None else memo
        if id(self) in seen:
            return
        if remove_duplicate:
            seen.add(id(self))
        yield prefix, self  # type: ignore[misc]
        for name, module in self._modules.items():
            if module is not None:
                below = f"{prefix}.{name}" if prefix else name
                yield from module.named_modules(seen, below, remove_duplicate)

    def modules(self, remove_duplicate: bool = True) -> Iterator[Module]:
        """Iterate over this module and all below."""
        found = self.named_modules(remove_duplicate=remove_duplicate)
        return (module for _, module in found)

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """Iterate over the direct sub-modules with their names, each once."""
        seen: set[int] = set()
        for name, module in self._modules.items():
            if module is not None and id(module) not in seen:
                seen.add(id(module))
                yield name, module

    def children(self) -> Iterator[Module]:
        """Iterate over the direct sub-modules, each once."""
        return (module for _, module in self.named_children())

    def _members(
        self, kind: str, prefix: str, recurse: bool, remove_duplicate: bool
    ) -> Iterator[tuple[str, Any]]:
        seen: set[int] = set()
        modules = (
            self.named_modules(prefix=prefix, remove_duplicate=remove_duplicate)
            if recurse
            else iter([(prefix, self)])
        )
        for path, module in modules:
            for name, value in module.__dict__[kind].items():
                if value is None or id(value) in seen:
                    continue
                if remove_duplicate:
                    seen.add(id(value))
                yield (f"{path}.{name}" if path else name), value

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Parameter]]:
        """Iterate over the parameters with dotted names.

        Parameters
        ----------
        prefix : str
            Put before every name.
        recurse : bool, default True
            Those of sub-modules too.
        remove_duplicate : bool, default True
            Give a parameter that has several names only once.
        """
        return self._members("_parameters", prefix, recurse, remove_duplicate)

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        """Iterate over the parameters, each once."""
        return (value for _, value in self.named_parameters(recurse=recurse))

    def named_buffers(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Tensor]]:
        """Iterate over the buffers with dotted names."""
        return self._members("_buffers", prefix, recurse, remove_duplicate)

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]:
        """Iterate over the buffers, each once."""
        return (value for _, value in self.named_buffers(recurse=recurse))

    def get_submodule(self, target: str) -> Module:
        """Return the sub-module with a dotted name; this one for ``""``."""
        module: Any = self
        for part in target.split(".") if target else ():
            below = module._modules.get(part)
            if below is None:
                raise AttributeError(
                    f"{type(self).__name__}.get_submodule: {target!r}: "
                    f"{type(module).__name__} has no sub-module {part!r}"
                )
            module = below
        return module  # type: ignore[no-any-return]

    def _get(self, kind: str, target: str) -> Any:
        path, _, name = target.rpartition(".")
        module = self.get_submodule(path)
        value = module.__dict__[kind].get(name)
        if value is None:
            raise AttributeError(
                f"{type(self).__name__}: {target!r}: {type(module).__name__} has no "
                f"{kind[1:-1]} {name!r}"
            )
        return value

    def get_parameter(self, target: str) -> Parameter:
        """Return the parameter with a dotted name."""
        return self._get("_parameters", target)  # type: ignore[no-any-return]

    def get_buffer(self, target: str) -> Tensor:
        """Return the buffer with a dotted name."""
        return self._get("_buffers", target)  # type: ignore[no-any-return]
