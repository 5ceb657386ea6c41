"""Write the type stub of a Tensor's methods: ``python -m nnlib.ops.stub``.

`nnlib.autograd.registry` attaches the methods when the operations are imported, which a
type checker cannot see. The stub beside `nnlib.autograd.methods` tells it, with the
signatures that the functions have.
"""

from __future__ import annotations

import ast
import builtins
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nnlib.autograd.methods
from nnlib.autograd.registry import OPS, Op
from nnlib.autograd.tensor import Tensor

__all__ = ["main", "render"]

_HEADER = """\
# Written by `python -m nnlib.ops.stub` from the operations; do not edit.
# mypy: disable-error-code="misc, override"
# ruff: noqa
# fmt: off
"""

# Names from these modules are written as they stand, whichever file defines them.
_TYPING = ("Any", "Callable", "Iterable", "Literal", "Mapping", "Sequence", "Never")


class _Writer:
    """Collects the lines of the stub, and what they import."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.imports: set[tuple[str, str]] = set()

    def annotation(self, text: Any, function: Callable[..., Any]) -> str:
        """Return an annotation as it reads inside the class of the stub.

        There, ``float`` would be the method of that name.
        """
        if text is inspect.Parameter.empty:
            text = "Any"
        tree = ast.parse(str(text), mode="eval")
        for node in ast.walk(tree):
            if isinstance(node, ast.Name):
                node.id = self.name(node.id, function)
        return ast.unparse(tree)

    def name(self, name: str, function: Callable[..., Any]) -> str:
        """Return a name, and note where it comes from."""
        if name in _TYPING:
            module = "typing" if name in ("Any", "Literal", "Never") else ""
            self.imports.add((module or "collections.abc", name))
            return name
        found = getattr(inspect.unwrap(function), "__globals__", {}).get(name)
        if inspect.isclass(found):
            self.imports.add((found.__module__, found.__name__))
            return str(found.__name__)
        if hasattr(builtins, name):
            self.imports.add(("builtins", ""))
            return f"builtins.{name}"
        self.imports.add(("typing", "Any"))
        return "Any"

    def method(
        self, name: str, function: Callable[..., Any], returns: str = ""
    ) -> None:
        """Write one method with the signature of its function."""
        function = inspect.unwrap(function)
        signature = inspect.signature(function)
        parameters = ["self"]
        starred = False
        for parameter in list(signature.parameters.values())[1:]:
            if parameter.kind is parameter.KEYWORD_ONLY and not starred:
                parameters.append("*")
                starred = True
            if parameter.kind is parameter.VAR_POSITIONAL:
                starred = True
            parameters.append(self.parameter(parameter, function))
        result = returns or self.annotation(signature.return_annotation, function)
        self.lines.append(f"    def {name}({', '.join(parameters)}) -> {result}: ...")

    def parameter(
        self, parameter: inspect.Parameter, function: Callable[..., Any]
    ) -> str:
        """Write one parameter."""
        mark: dict[Any, str] = {
            parameter.VAR_POSITIONAL: "*",
            parameter.VAR_KEYWORD: "**",
        }
        kind = self.annotation(parameter.annotation, function)
        text = f"{mark.get(parameter.kind, '')}{parameter.name}: {kind}"
        if parameter.default is parameter.empty:
            return text
        plain = isinstance(parameter.default, bool | int | float | str | tuple | None)
        return f"{text} = {parameter.default!r}" if plain else f"{text} = ..."


def render() -> str:
    """Return the text of the stub."""
    writer = _Writer()
    for name, op in sorted(OPS.items()):
        _write(writer, name, op)
    writer.imports.add(("nnlib.autograd.tensor", "Tensor"))
    imports = "\n".join(
        f"from {module} import {name} as {name}" if name else f"import {module}"
        for module, name in sorted(writer.imports)
    )
    body = "\n".join(sorted(set(writer.lines), key=_by_name))
    return f"{_HEADER}{imports}\n\nclass TensorMethods:\n{body}\n"


def _by_name(line: str) -> tuple[str, str]:
    return line.partition("(")[0], line


def _write(writer: _Writer, name: str, op: Op) -> None:
    for method in op.methods:
        writer.method(method, op.function)
    if op.inplace:
        given = getattr(Tensor, op.inplace)
        function = inspect.unwrap(given)
        for method in (op.inplace, *(f"{other}_" for other in op.methods)):
            if getattr(Tensor, method, None) is given:
                writer.method(method, function, "Tensor")
    for operator in op.operators:
        if operator in ("__setitem__", "__getitem__", "__round__"):
            returns = "Tensor" if operator == "__getitem__" else ""
            writer.method(operator, op.function, returns)
        elif len(inspect.signature(op.function).parameters) == 1:
            writer.lines.append(f"    def {operator}(self) -> Tensor: ...")
        else:
            writer.imports.add(("typing", "Any"))
            writer.lines.append(f"    def {operator}(self, other: Any) -> Tensor: ...")


def main() -> None:
    """Write the stub beside `nnlib.autograd.methods`."""
    path = Path(nnlib.autograd.methods.__file__).with_suffix(".pyi")
    path.write_text(render(), encoding="utf-8")
    print(f"wrote {path}")


if __name__ == "__main__":
    # Run as a program this file is `__main__`; the operations are registered by the
    # package, which `-m` has imported.
    main()
