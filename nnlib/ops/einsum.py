"""Einstein summation, by diagonals, sums and matrix products."""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

from nnlib.autograd.construct import as_tensor
from nnlib.autograd.registry import public
from nnlib.autograd.tensor import Tensor
from nnlib.backend.errors import DTypeError, ShapeError
from nnlib.ops.matmul import matmul

__all__ = ["einsum"]

# A label is a letter, or for a dimension of the ellipsis its distance from the last
# one (0, 1, ...), so that ellipses of unequal length broadcast from the right.
Label = str | int


@public(method=False)
def einsum(equation: str, *operands: Any) -> Tensor:
    """Sum products of elements whose labelled indices agree.

    Parameters
    ----------
    equation : str
        One term of letters per operand, separated by commas; then optionally ``->``
        and the letters of the result. A letter repeated within a term takes the
        diagonal; letters that the result leaves out are summed. Without ``->`` the
        result has the letters that occur once, in alphabetical order. ``...`` stands
        for any further dimensions, which broadcast.
    *operands : Tensor
        Or one sequence of them.

    Returns
    -------
    Tensor

    Raises
    ------
    DTypeError
        If the equation cannot be read.
    ShapeError
        If operands and terms do not fit.

    Notes
    -----
    Operands are contracted from left to right, each pair by one matrix product.

    Examples
    --------
    >>> import nnlib
    >>> a, b = nnlib.ones(2, 3), nnlib.ones(3, 4)
    >>> nnlib.einsum("ij,jk->ik", a, b).shape
    Size([2, 4])
    >>> nnlib.einsum("ii", nnlib.eye(3))
    tensor(3.)
    """
    if len(operands) == 1 and isinstance(operands[0], list | tuple):
        operands = tuple(operands[0])
    tensors = [as_tensor(operand) for operand in operands]
    terms, output = _parse(equation, tuple([x.ndim for x in tensors]))
    _check_lengths(equation, terms, tensors)
    result, labels = _single(tensors[0], terms[0], {*output, *_union(terms[1:])})
    for position in range(1, len(tensors)):
        keep = {*output, *_union(terms[position + 1 :])}
        x, own = _single(tensors[position], terms[position], keep | set(labels))
        result, labels = _contract(result, labels, x, own, keep)
    order = [labels.index(label) for label in output]
    return result if order == sorted(order) else result.permute(*order)  # type: ignore[no-any-return]


def _union(terms: Sequence[Sequence[Label]]) -> set[Label]:
    return {label for term in terms for label in term}


@functools.lru_cache(maxsize=256)
def _parse(
    equation: str, ndims: tuple[int, ...]
) -> tuple[list[list[Label]], list[Label]]:
    """Return the labels of each operand and of the result, never to be changed."""
    text = equation.replace(" ", "")
    left, arrow, right = text.partition("->")
    parts = left.split(",")
    if len(parts) != len(ndims) or not ndims:
        raise ShapeError(
            f"einsum: the equation {equation!r} has {len(parts)} terms, got "
            f"{len(ndims)} operands"
        )
    terms = []
    for position, (part, ndim) in enumerate(zip(parts, ndims, strict=True)):
        letters = part.replace("...", "", 1)
        dots = ndim - len(letters)
        if dots < 0 or (dots > 0 and "..." not in part):
            raise ShapeError(
                f"einsum: operand {position} has {ndim} dimensions, its term "
                f"{part!r} names {len(letters)}"
            )
        terms.append(_labels(equation, part, dots))
    counts = Counter(label for term in terms for label in term)
    dotted = sorted((x for x in counts if isinstance(x, int)), reverse=True)
    if arrow:
        output = _labels(equation, right, len(dotted))
    else:
        once = sorted(x for x in counts if isinstance(x, str) and counts[x] == 1)
        output = [*dotted, *once]
    for label in output:
        if label not in counts:
            raise ShapeError(
                f"einsum: {equation!r}: the result names {label!r}, no operand does"
            )
        if output.count(label) > 1:
            raise ShapeError(f"einsum: {equation!r}: the result names {label!r} twice")
    return terms, output


def _labels(equation: str, part: str, dots: int) -> list[Label]:
    before, ellipsis, after = part.partition("...")
    for letter in before + after:
        if not (letter.isascii() and letter.isalpha()):
            raise DTypeError(
                f"einsum: {equation!r}: expected letters, commas, '...' and '->', got "
                f"{letter!r}"
            )
    middle: list[Label] = list(range(dots - 1, -1, -1)) if ellipsis else []
    return [*before, *middle, *after]


def _check_lengths(equation: str, terms: Any, tensors: Any) -> None:
    lengths: dict[Label, int] = {}
    for term, x in zip(terms, tensors, strict=True):
        for label, length in zip(term, x.shape, strict=True):
            known = lengths.setdefault(label, length)
            if known == 1:
                lengths[label] = length
            elif length not in (1, known):
                name = "..." if isinstance(label, int) else label
                raise ShapeError(
                    f"einsum: {equation!r}: the index {name!r} has lengths {known} "
                    f"and {length}"
                )


def _single(x: Any, term: list[Label], keep: set[Label]) -> tuple[Any, list[Label]]:
    """Take diagonals of repeated labels; sum labels that nothing else needs."""
    labels = list(term)
    for label in dict.fromkeys(term):
        while labels.count(label) > 1:
            first = labels.index(label)
            second = labels.index(label, first + 1)
            if x.shape[first] != x.shape[second]:
                raise ShapeError(
                    f"einsum: the repeated index {label!r} has lengths "
                    f"{x.shape[first]} and {x.shape[second]}"
                )
            x = x.diagonal(dim1=first, dim2=second)
            labels = [item for i, item in enumerate(labels) if i not in (first, second)]
            labels.append(label)
    summed = [i for i, label in enumerate(labels) if label not in keep]
    if summed:
        x = x.sum(summed)
        labels = [label for label in labels if label in keep]
    return x, labels


def _contract(
    a: Any, a_labels: list[Label], b: Any, b_labels: list[Label], keep: set[Label]
) -> tuple[Any, list[Label]]:
    """Multiply two operands and sum the labels that nothing else needs."""
    shared = [label for label in a_labels if label in b_labels]
    a, b = (
        _broadcast(a, a_labels, b, b_labels, shared),
        _broadcast(b, b_labels, a, a_labels, shared),
    )
    batch = [label for label in shared if label in keep]
    summed = [label for label in shared if label not in keep]
    free_a = [label for label in a_labels if label not in shared]
    free_b = [label for label in b_labels if label not in shared]
    size = dict(zip(a_labels, a.shape, strict=True))
    size |= dict(zip(b_labels, b.shape, strict=True))
    lead = [size[label] for label in batch]

    def arranged(x: Any, labels: list[Label], *groups: list[Label]) -> Any:
        """Bring `x` into the order batch, groups; each group as one dimension."""
        order = [labels.index(each) for part in (batch, *groups) for each in part]
        if order != sorted(order):
            x = x.permute(*order)
        if len(groups[0]) == len(groups[1]) == 1:
            return x
        return x.reshape(
            *lead, *(math.prod(size[each] for each in part) for part in groups)
        )

    rows = arranged(a, a_labels, free_a, summed)
    columns = arranged(b, b_labels, summed, free_b)
    # Without a sum the product of a column and a row is plain multiplication.
    out = matmul(rows, columns) if summed else rows * columns
    result = [*batch, *free_a, *free_b]
    if not len(free_a) == len(free_b) == 1:
        out = out.reshape([size[label] for label in result])
    return out, result


def _broadcast(
    x: Any, labels: list[Label], y: Any, others: list[Label], shared: list[Label]
) -> Any:
    """Stretch dimensions of length 1 to what the other operand has there."""
    if 1 not in x.shape:
        return x
    shape = list(x.shape)
    for label in shared:
        if shape[labels.index(label)] == 1:
            shape[labels.index(label)] = y.shape[others.index(label)]
    return x if shape == list(x.shape) else x.expand(*shape)
