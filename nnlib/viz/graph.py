"""A picture of the graph that a tensor was computed by, through graphviz."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nnlib.autograd.function import Function
from nnlib.autograd.saved import edge_of
from nnlib.autograd.tensor import Tensor
from nnlib.backend.errors import DTypeError, Error
from nnlib.viz.figures import VizError

__all__ = ["make_dot"]

# Leaves, operations, results: the colours of torchviz.
_LEAF, _NODE, _RESULT = "lightblue", "lightgrey", "darkolivegreen1"


def make_dot(
    var: Tensor | Sequence[Tensor],
    params: Mapping[str, Tensor] | None = None,
    *,
    show_saved: bool = False,
) -> Any:
    """Return the graph of one or several tensors as a `graphviz.Digraph`.

    Blue boxes are leaves, grey ones operations in the direction of the forward pass,
    green ones the results. Writing the source (``.source``, ``.save()``) takes the
    Python package alone; a rendered picture (``.render()``, notebooks) takes the
    program ``dot`` as well.

    Parameters
    ----------
    var : Tensor or sequence of Tensor
        With history that was not freed by a backward pass.
    params : mapping of str to Tensor, optional
        Names for leaves, such as ``dict(model.named_parameters())``.
    show_saved : bool, default False
        Write beside each operation the shapes that it keeps for backward.

    Raises
    ------
    VizError
        If graphviz is not installed.
    Error
        If a tensor has no history.

    Examples
    --------
    >>> import nnlib
    >>> w = nnlib.ones(2, requires_grad=True)
    >>> print(make_dot((w * w).sum(), {"w": w}).source.splitlines()[0])
    digraph nnlib {
    """
    try:
        import graphviz
    except ModuleNotFoundError as error:
        raise VizError(
            f'pictures of graphs need graphviz ({error}): python -m pip install "nnlib'
            '-dl[viz]"'
        ) from error
    results = [var] if isinstance(var, Tensor) else list(var)
    names = {id(tensor): name for name, tensor in (params or {}).items()}
    dot = graphviz.Digraph(
        "nnlib",
        node_attr={"shape": "box", "style": "filled", "fontname": "monospace"},
        graph_attr={"rankdir": "TB"},
    )
    stack: list[Any] = []
    for number, tensor in enumerate(results):
        if not isinstance(tensor, Tensor):
            raise DTypeError(
                f"make_dot: expected a Tensor, got {type(tensor).__name__}"
            )
        if tensor.grad_fn is None:
            raise Error(f"make_dot: tensor {number} has no history: nothing to draw")
        label = f"{names.get(id(tensor), 'result')}\n{tuple(tensor.shape)}"
        dot.node(f"result{number}", label, fillcolor=_RESULT)
        source = edge_of(tensor)
        dot.edge(_name(source), f"result{number}")
        stack.append(source)
    seen: set[str] = set()
    while stack:
        edge = stack.pop()
        if _name(edge) in seen:
            continue
        seen.add(_name(edge))
        node = edge[0] if type(edge) is tuple else edge
        if not isinstance(node, Function):
            label = f"{names.get(id(node), 'leaf')}\n{tuple(node.shape)}"
            dot.node(_name(edge), label, fillcolor=_LEAF)
            continue
        dot.node(_name(edge), _label(node, show_saved), fillcolor=_NODE)
        for below in node.edges or ():
            if below is not None:
                dot.edge(_name(below), _name(edge))
                stack.append(below)
    return dot


def _name(edge: Any) -> str:
    node = edge[0] if type(edge) is tuple else edge
    return f"n{id(node)}"


def _label(node: Function, show_saved: bool) -> str:
    kept = [value for value in node._saved or () if hasattr(value, "shape")]
    if not show_saved or not kept:
        return node.name()
    shapes = ", ".join(str(tuple(value.shape)) for value in kept)
    return f"{node.name()}\nkeeps {shapes}"
