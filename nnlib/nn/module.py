"""`Module`: parameters, buffers and sub-modules under names, and a `forward`.

It has three parts: names and what they stand for in `nnlib.nn.tree`, hooks in
`nnlib.nn.hooks`, and the rest here, with the state dict's details in `nnlib.nn.state`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, ClassVar, Self

from nnlib.autograd.mode import no_grad
from nnlib.autograd.tensor import Tensor
from nnlib.backend.device import Device, resolve_device
from nnlib.backend.dtypes import (
    bfloat16,
    float16,
    float32,
    float64,
    resolve_dtype,
)
from nnlib.backend.errors import DTypeError, Error, not_a_tensor
from nnlib.nn import state as _state
from nnlib.nn.hooks import HookMethods
from nnlib.nn.tree import ModuleTree

__all__ = ["Module"]


def _forward_missing(self: Module, *_: Any, **__: Any) -> Any:
    raise Error(f"{type(self).__name__}: forward is not defined")


class Module(ModuleTree, HookMethods):
    """Base of every layer and model.

    Assigning a `Parameter` or a Module to an attribute registers it under that name.
    A subclass calls ``super().__init__()`` first and defines ``forward``.

    Attributes
    ----------
    training : bool
        Whether layers such as Dropout behave as in training; set it by `train` and
        `eval`.

    Examples
    --------
    >>> import nnlib
    >>> from nnlib import nn
    >>> class Scale(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.factor = nn.Parameter(nnlib.tensor([2.0]))
    ...     def forward(self, x):
    ...         return x * self.factor
    >>> [name for name, _ in Scale().named_parameters()]
    ['factor']
    """

    # Set by `hold_eval`.
    _held_in_eval = False
    # Names of buffers that a state may leave out: they stay as they are.
    _optional_entries: ClassVar[frozenset[str]] = frozenset()

    training: bool
    forward: Callable[..., Any] = _forward_missing

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the hooks and `forward`."""
        try:
            if self._hooked:
                return self._call_hooked(args, kwargs)
            return self.forward(*args, **kwargs)
        except AttributeError as error:
            # A model's own forward shall fail as Python code does.
            if not type(self).__module__.startswith("nnlib."):
                raise
            names = inspect.signature(self.forward).parameters
            given = dict(zip(names, args, strict=False)) | kwargs
            wrong = not_a_tensor(type(self).__name__, error, given)
            if wrong is None:
                raise
            raise wrong from None

    # -- state -------------------------------------------------------------------

    def state_dict(
        self,
        *,
        destination: dict[str, Any] | None = None,
        prefix: str = "",
        keep_vars: bool = False,
    ) -> dict[str, Any]:
        """Return all parameters and persistent buffers by dotted name.

        The tensors share memory with the module and are detached, unless `keep_vars`.
        """
        found = {} if destination is None else destination
        _state.collect(self, found, prefix, keep_vars)
        return found

    def load_state_dict(
        self, state_dict: Any, strict: bool = True, assign: bool = False
    ) -> _state.IncompatibleKeys:
        """Copy values into the parameters and buffers of the same names.

        Parameters
        ----------
        state_dict : mapping of str to Tensor or array
            As from `state_dict`; NumPy arrays and PyTorch's CPU tensors will do.
        strict : bool, default True
            Refuse missing and unexpected names.
        assign : bool, default False
            Take the given tensors' memory, dtype and device instead of copying.

        Returns
        -------
        IncompatibleKeys
            ``missing_keys`` and ``unexpected_keys``.

        Raises
        ------
        Error
            All missing, unexpected and ill-shaped entries together (a ShapeError if a
            shape differs); nothing has been loaded then.
        """
        return _state.load(self, state_dict, strict, assign)

    def train(self, mode: bool = True) -> Self:
        """Set training mode here and below; return this module."""
        if not isinstance(mode, bool):
            raise DTypeError(f"train: mode: expected a bool, got {mode!r}")
        for module in self.modules():
            module.training = mode and not module._held_in_eval
        return self

    def hold_eval(self, hold: bool = True) -> Self:
        """Keep this module (not those below) in evaluation mode, whatever `train` says.

        For frozen batch normalisation, whose statistics are not to change;
        `nnlib.train.freeze` uses it. With False it follows `train` again.
        """
        self._held_in_eval = hold
        if hold:
            self.training = False
        return self

    @property
    def held_in_eval(self) -> bool:
        """Whether `hold_eval` keeps this module in evaluation mode."""
        return self._held_in_eval

    def eval(self) -> Self:
        """Set evaluation mode here and below."""
        return self.train(False)

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Set whether the parameters want gradients."""
        for parameter in self.parameters():
            parameter.requires_grad_(requires_grad)
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop the gradients of all parameters, or fill them with zeros."""
        for parameter in self.parameters():
            _state.clear_grad(parameter, set_to_none)

    def apply(self, fn: Callable[[Module], Any]) -> Self:
        """Call ``fn(module)`` for every module below, then for this one."""
        for module in self.children():
            module.apply(fn)
        fn(self)
        return self

    # -- moves -------------------------------------------------------------------

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Replace the memory of every parameter, gradient and buffer by ``fn``'s."""
        with no_grad():
            parameters = list(self.named_parameters(recurse=recurse))
            for _, parameter in parameters:
                _state.replace(parameter, fn)
            changed: dict[int, Tensor] = {}
            for module in self.modules() if recurse else (self,):
                for name, buffer in module._buffers.items():
                    if buffer is not None:
                        if id(buffer) not in changed:
                            changed[id(buffer)] = fn(buffer)
                        module._buffers[name] = changed[id(buffer)]
        return self

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """Move and cast, to a device, a dtype, both, or those of a tensor.

        Only floating parameters and buffers are cast. Parameters stay the same
        objects. ``memory_format=`` is taken, and changes nothing: layers lay their
        weights out themselves, and give images channels-last.

        Raises
        ------
        DTypeError
            If the dtype is not floating, or `memory_format` is none.
        """
        device, dtype, wait = _state.parse_to(*args, **kwargs)

        def move(tensor: Tensor) -> Tensor:
            cast = dtype if tensor.is_floating_point() else None
            return tensor.to(device=device, dtype=cast, non_blocking=wait)

        return self._apply(move)

    def type(self, dst_type: Any) -> Self:
        """Cast all parameters and buffers, integer ones too."""
        dtype = resolve_dtype(dst_type)
        return self._apply(lambda tensor: tensor.to(dtype=dtype))

    def float(self) -> Self:
        """Cast floating parameters and buffers to float32."""
        return self.to(float32)

    def double(self) -> Self:
        """Cast floating parameters and buffers to float64."""
        return self.to(float64)

    def half(self) -> Self:
        """Cast floating parameters and buffers to float16."""
        return self.to(float16)

    def bfloat16(self) -> Self:
        """Cast floating parameters and buffers to bfloat16."""
        return self.to(bfloat16)

    def cuda(self, device: int | str | Device | None = None) -> Self:
        """Move everything to a CUDA device (the current one by default)."""
        return self.to(resolve_device("cuda" if device is None else device))

    def cpu(self) -> Self:
        """Move everything to the CPU."""
        return self.to("cpu")

    def __getstate__(self) -> dict[str, Any]:
        """Return what pickle and deepcopy keep; computed tensors lose their history."""
        return {
            key: value.detach()
            if isinstance(value, Tensor) and value.grad_fn is not None
            else value
            for key, value in self.__dict__.items()
        }

    # -- description -------------------------------------------------------------

    def extra_repr(self) -> str:
        """Return what stands between the parentheses of the representation."""
        return ""

    def _get_name(self) -> str:
        return type(self).__name__

    def __repr__(self) -> str:
        extra = self.extra_repr()
        lines = [
            f"({name}): {_indent(module)}" for name, module in self._modules.items()
        ]
        if not lines:
            return f"{self._get_name()}({_indent(extra)})"
        lines = [*extra.split("\n"), *lines] if extra else lines
        return "\n  ".join([f"{self._get_name()}(", *lines]) + "\n)"


def _indent(value: object) -> str:
    return str(value if isinstance(value, str) else repr(value)).replace("\n", "\n  ")
