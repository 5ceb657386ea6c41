"""Hooks of a Module: before and after forward, around backward, on the state dict."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nnlib.autograd.function import Function
from nnlib.autograd.mode import state
from nnlib.autograd.tensor import RemovableHandle, Tensor

__all__ = ["HookMethods"]

Hooks = dict[int, Any]


class HookMethods:
    """The part of `Module` that holds and runs hooks.

    Dictionaries of hooks are made when the first one is registered; a module without
    any pays one look at ``_hooked`` per call.
    """

    _hooked: bool = False
    _forward_pre_hooks: Hooks | None = None
    _forward_hooks: Hooks | None = None
    _backward_pre_hooks: Hooks | None = None
    _backward_hooks: Hooks | None = None
    _state_dict_pre_hooks: Hooks | None = None
    _state_dict_hooks: Hooks | None = None
    _load_state_dict_pre_hooks: Hooks | None = None
    _load_state_dict_post_hooks: Hooks | None = None

    forward: Callable[..., Any]

    def _add_hook(self, kind: str, hook: Any, prepend: bool = False) -> RemovableHandle:
        own = self.__dict__
        hooks = own.setdefault(kind, {})
        handle = RemovableHandle(hooks, hook)
        if prepend:
            for key in [key for key in hooks if key != handle.id]:
                hooks[key] = hooks.pop(key)
        if "state_dict" not in kind:
            own["_hooked"] = True
        return handle

    def register_forward_pre_hook(
        self,
        hook: Callable[..., Any],
        *,
        prepend: bool = False,
        with_kwargs: bool = False,
    ) -> RemovableHandle:
        """Call ``hook(module, args)`` before `forward`.

        What it returns, if not None, replaces the arguments (a single value is made a
        tuple). With `with_kwargs` it is ``hook(module, args, kwargs)`` and returns
        None or both.
        """
        return self._add_hook("_forward_pre_hooks", (hook, with_kwargs), prepend)

    def register_forward_hook(
        self,
        hook: Callable[..., Any],
        *,
        prepend: bool = False,
        with_kwargs: bool = False,
        always_call: bool = False,
    ) -> RemovableHandle:
        """Call ``hook(module, args, output)`` after `forward`.

        What it returns, if not None, replaces the output. With `with_kwargs` it is
        ``hook(module, args, kwargs, output)``. With `always_call` it is called, with
        None for the output, also when `forward` raises.
        """
        return self._add_hook(
            "_forward_hooks", (hook, with_kwargs, always_call), prepend
        )

    def register_full_backward_pre_hook(
        self, hook: Callable[..., Any], prepend: bool = False
    ) -> RemovableHandle:
        """Call ``hook(module, grad_output)`` before the gradient enters the module.

        A tuple (or tensor) that it returns replaces `grad_output`.
        """
        return self._add_hook("_backward_pre_hooks", hook, prepend)

    def register_full_backward_hook(
        self, hook: Callable[..., Any], prepend: bool = False
    ) -> RemovableHandle:
        """Call ``hook(module, grad_input, grad_output)`` in the backward pass.

        `grad_input` holds one entry per positional tensor argument (None for others).
        A tuple (or tensor) that it returns replaces `grad_input`. Inputs and outputs
        of the module must not be changed in place where such a hook is registered.
        """
        return self._add_hook("_backward_hooks", hook, prepend)

    def register_state_dict_pre_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Call ``hook(module, prefix, keep_vars)`` before `state_dict` collects."""
        return self._add_hook("_state_dict_pre_hooks", hook)

    def register_state_dict_post_hook(
        self, hook: Callable[..., Any]
    ) -> RemovableHandle:
        """Call ``hook(module, state_dict, prefix, local_metadata)`` after it."""
        return self._add_hook("_state_dict_hooks", hook)

    def register_load_state_dict_pre_hook(
        self, hook: Callable[..., Any]
    ) -> RemovableHandle:
        """Call a hook that may change the state dict before anything is checked.

        It is ``hook(module, state_dict, prefix, local_metadata, strict, missing_keys,
        unexpected_keys, error_msgs)``; `state_dict` is a copy.
        """
        return self._add_hook("_load_state_dict_pre_hooks", hook)

    def register_load_state_dict_post_hook(
        self, hook: Callable[..., Any]
    ) -> RemovableHandle:
        """Call ``hook(module, incompatible_keys)`` after everything was loaded."""
        return self._add_hook("_load_state_dict_post_hooks", hook)

    def _call_hooked(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        for hook, with_kwargs in list((self._forward_pre_hooks or {}).values()):
            if with_kwargs:
                changed = hook(self, args, kwargs)
                if changed is not None:
                    args, kwargs = changed
            else:
                changed = hook(self, args)
                if changed is not None:
                    args = changed if isinstance(changed, tuple) else (changed,)
        around = None
        if (self._backward_hooks or self._backward_pre_hooks) and state.grad:
            around = _Around(self)
            args = around.enter(args)
        hooks = list((self._forward_hooks or {}).values())
        try:
            output = self.forward(*args, **kwargs)
        except BaseException:
            for hook, with_kwargs, always in hooks:
                if always:
                    hook(self, args, *((kwargs,) if with_kwargs else ()), None)
            raise
        for hook, with_kwargs, _ in hooks:
            changed = hook(self, args, *((kwargs,) if with_kwargs else ()), output)
            if changed is not None:
                output = changed
        return output if around is None else around.leave(output)


class ModuleBoundary(Function):
    """Tensors as they enter or leave a module: the place of its backward hooks."""

    upcasts = False

    def forward(self, *arrays: Any) -> Any:
        """Return the same arrays."""
        self.set_materialize_grads(False)
        return tuple(array[...] for array in arrays)

    def backward(self, *grads: Any) -> Any:
        """Return the same gradients."""
        return grads


class _Around:
    """One call of a module with backward hooks."""

    def __init__(self, module: Any) -> None:
        self.module = module
        self.before = list((module._backward_pre_hooks or {}).values())
        self.hooks = list((module._backward_hooks or {}).values())
        self.places: list[int] = []
        self.arguments = 0
        self.grad_output: tuple[Any, ...] = ()

    def enter(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        self.arguments = len(args)
        places = [i for i, x in enumerate(args) if isinstance(x, Tensor)]
        if not self.hooks or not any(args[i].requires_grad for i in places):
            return args
        self.places = places
        passed = ModuleBoundary.apply(*(args[i] for i in places))
        node = next(x.grad_fn for x in passed if x.grad_fn is not None)
        node.hooks = {0: self.on_input}
        result = list(args)
        for place, tensor in zip(places, passed, strict=True):
            result[place] = tensor
        return tuple(result)

    def leave(self, output: Any) -> Any:
        several = isinstance(output, tuple | list)
        outputs = list(output) if several else [output]
        places = [
            i
            for i, x in enumerate(outputs)
            if isinstance(x, Tensor) and x.requires_grad
        ]
        if not places:
            return output
        passed = ModuleBoundary.apply(*(outputs[i] for i in places))
        passed[0].grad_fn.hooks = {0: self.on_output}
        for place, tensor in zip(places, passed, strict=True):
            outputs[place] = tensor
        if not several:
            return outputs[0]
        if hasattr(output, "_fields"):
            return type(output)(*outputs)
        return type(output)(outputs)

    def on_output(self, grads: list[Any]) -> None:
        for hook in self.before:
            _take(grads, hook(self.module, tuple(grads)))
        self.grad_output = tuple(grads)
        if not self.places:
            for hook in self.hooks:
                hook(self.module, (None,) * self.arguments, self.grad_output)

    def on_input(self, grads: list[Any]) -> None:
        full: list[Any] = [None] * self.arguments
        for place, grad in zip(self.places, grads, strict=True):
            full[place] = grad
        for hook in self.hooks:
            _take(full, hook(self.module, tuple(full), self.grad_output))
        grads[:] = [full[place] for place in self.places]


def _take(values: list[Any], changed: Any) -> None:
    """Let a hook's answer replace `values`."""
    if changed is not None:
        values[:] = changed if isinstance(changed, tuple | list) else (changed,)
