"""Cases of matrix products and einsum."""

from __future__ import annotations

import numpy as np
from harness import Case, Sample, integers, normal

import nnlib
from nnlib.backend.errors import DTypeError, ShapeError


def product(name, samples, reference=np.matmul, errors=(), **options):
    options.setdefault("atol32", 1e-4)
    return Case(
        name, samples=samples, reference=reference, errors=list(errors), **options
    )


def fails(call, exception, pattern):
    return (call, exception, pattern)


def blend(multiply):
    def reference(x, a, b, beta=1, alpha=1):
        return beta * x + alpha * multiply(a, b)

    return reference


def blended(name, samples, multiply, errors):
    extra = Sample(samples[0], {"beta": 0.5, "alpha": -2})
    return product(name, [*samples, extra], blend(multiply), errors, empty=False)


LINEAR = [
    (normal(5, 4), normal(3, 4), normal(3)),
    (normal(2, 3, 4), normal(3, 4)),
    (normal(4), normal(3, 4), normal(3)),
    (normal(40, 30), normal(20, 30), normal(20)),
]
ones = nnlib.ones

CASES = [
    product(
        "matmul",
        [
            (normal(3, 4), normal(4, 2)),
            (normal(4), normal(4)),
            (normal(3, 4), normal(4)),
            (normal(4), normal(4, 2)),
            (normal(2, 3, 4), normal(4)),
            (normal(4), normal(2, 4, 3)),
            (normal(2, 3, 4), normal(4, 2)),
            (normal(3, 4), normal(2, 4, 2)),
            (normal(2, 1, 3, 4), normal(3, 4, 2)),
            (normal(30, 25), normal(25, 40)),
            (integers(3, 4), integers(4, 2)),
        ],
        errors=[
            fails(
                lambda: ones(2, 3) @ ones(2, 3),
                ShapeError,
                r"matmul: input of shape \(2, 3\) and other of shape \(2, 3\) do not",
            ),
            fails(
                lambda: ones(2, 3, 4) @ ones(3, 4, 2), ShapeError, "matmul: input of"
            ),
            fails(lambda: ones(2, 3) @ ones(2), ShapeError, "vector of 2 elements"),
            fails(lambda: ones(()) @ ones(2), ShapeError, "at least one dimension"),
            fails(lambda: ones(2) @ 3, DTypeError, "expected two tensors, got Tensor"),
            fails(
                lambda: ones(2, 2) @ nnlib.eye(2, dtype="float64"),
                DTypeError,
                "matmul: other: expected float32, got float64",
            ),
        ],
        empty=False,
    ),
    product(
        "mm",
        [(normal(3, 4), normal(4, 2)), (normal(1, 1), normal(1, 3))],
        errors=[
            fails(
                lambda: nnlib.mm(ones(2), ones(2, 2)),
                ShapeError,
                r"mm: input: expected 2 dimensions, got shape \(2,\)",
            )
        ],
        empty=False,
    ),
    product(
        "mv",
        [(normal(3, 4), normal(4))],
        errors=[fails(lambda: nnlib.mv(ones(2), ones(2)), ShapeError, "mv: input")],
        empty=False,
    ),
    product(
        "bmm",
        [(normal(2, 3, 4), normal(2, 4, 2)), (normal(9, 8, 16), normal(9, 16, 8))],
        errors=[
            fails(
                lambda: nnlib.bmm(ones(2, 2, 2), ones(3, 2, 2)),
                ShapeError,
                "bmm: input is a batch of 2, mat2 of 3",
            )
        ],
    ),
    product(
        "dot",
        [(normal(4), normal(4))],
        np.dot,
        errors=[
            fails(
                lambda: nnlib.dot(ones(2), ones(3)),
                ShapeError,
                "dot: input has 2 elements, other 3",
            )
        ],
    ),
    product(
        "linear",
        LINEAR,
        lambda x, w, b=0.0: x @ w.T + b,
        torch="nn.functional.linear",
        errors=[
            fails(
                lambda: nnlib.autograd.registry.OPS["linear"].function(
                    ones(2, 3), ones(5, 4)
                ),
                ShapeError,
                "linear: x has 3 features in its last dimension, weight expects 4",
            ),
            fails(
                lambda: nnlib.autograd.registry.OPS["linear"].function(
                    ones(2, 4), ones(5, 4), ones(4)
                ),
                ShapeError,
                r"linear: bias has shape \(4,\), expected \(5,\)",
            ),
            fails(
                lambda: nnlib.autograd.registry.OPS["linear"].function(
                    ones(2, 4), ones(5, 4, dtype="float64")
                ),
                DTypeError,
                "linear: weight: expected float32, got float64",
            ),
            fails(
                lambda: nnlib.autograd.registry.OPS["linear"].function(
                    ones(2, 4, dtype="uint8"), ones(5, 4)
                ),
                DTypeError,
                "linear: x: expected float32 as the weight, got uint8",
            ),
            fails(
                lambda: nnlib.autograd.registry.OPS["linear"].function(
                    ones(2, 4), ones(4)
                ),
                ShapeError,
                r"linear: weight: expected \(out_features, in_features\), got \(4,\)",
            ),
        ],
        empty=False,
    ),
    product(
        "outer",
        [(normal(3), normal(4)), (integers(2), integers(3))],
        np.outer,
        errors=[
            fails(lambda: nnlib.outer(ones(2, 2), ones(2)), ShapeError, "outer: input")
        ],
    ),
    product(
        "inner",
        [
            (normal(3), normal(3)),
            (normal(2, 3), normal(3)),
            (normal(2, 3), normal(4, 5, 3)),
            (normal(2, 3), np.array(2.0)),
        ],
        np.inner,
        errors=[
            fails(lambda: nnlib.inner(ones(2), ones(3)), ShapeError, "inner: input")
        ],
    ),
    product(
        "tensordot",
        [
            (normal(2, 3, 4), normal(3, 4, 5)),
            Sample((normal(2, 3), normal(3, 2)), {"dims": 1}),
            Sample((normal(2, 3, 4), normal(4, 5, 2)), {"dims": ([0, -1], [2, 0])}),
            Sample((normal(2), normal(3)), {"dims": 0}),
        ],
        lambda a, b, dims=2: np.tensordot(a, b, dims),
        errors=[
            fails(
                lambda: nnlib.tensordot(ones(2, 3), ones(2, 3), 1),
                ShapeError,
                "tensordot: dimension 1 of input has length 3, dimension 0 of other 2",
            ),
            fails(
                lambda: nnlib.tensordot(ones(2), ones(2), 2), ShapeError, "dims: expec"
            ),
            fails(
                lambda: nnlib.tensordot(ones(2), ones(2), ([0], [0, 1])),
                ShapeError,
                "1 dimensions of input, 2 of other",
            ),
            fails(
                lambda: nnlib.tensordot(ones(2), ones(2), ([3], [0])),
                ShapeError,
                "input has 1 dimensions, got 3",
            ),
        ],
        method=False,
        empty=False,
    ),
    product(
        "kron",
        [
            (normal(2, 3), normal(3, 2)),
            (normal(2), normal(2, 2)),
            (normal(3), normal(2)),
        ],
        np.kron,
        empty=False,
    ),
    blended(
        "addmm",
        [
            (normal(3, 2), normal(3, 4), normal(4, 2)),
            (normal(2), normal(3, 4), normal(4, 2)),
        ],
        np.matmul,
        [
            fails(
                lambda: nnlib.addmm(ones(5), ones(2, 2), ones(2, 2)),
                ShapeError,
                r"addmm: shapes \(5,\) and \(2, 2\) do not broadcast",
            )
        ],
    ),
    blended(
        "addmv",
        [(normal(3), normal(3, 4), normal(4))],
        np.matmul,
        [fails(lambda: nnlib.addmv(ones(1), ones(2), ones(2)), ShapeError, "addmv:")],
    ),
    blended(
        "addr",
        [(normal(3, 4), normal(3), normal(4))],
        np.outer,
        [fails(lambda: nnlib.addr(ones(3), ones(2), ones(2)), ShapeError, "addr:")],
    ),
    blended(
        "baddbmm",
        [(normal(2, 3, 5), normal(2, 3, 4), normal(2, 4, 5))],
        np.matmul,
        [
            fails(
                lambda: nnlib.baddbmm(ones(1), ones(2, 2, 2), ones(3, 2, 2)),
                ShapeError,
                "baddbmm: batch1 is a batch of 2, batch2 of 3",
            )
        ],
    ),
    product(
        "einsum",
        [
            ("ij,jk->ik", normal(2, 3), normal(3, 4)),
            ("ij,jk", normal(2, 3), normal(3, 4)),
            ("ii", normal(3, 3)),
            ("ii->i", normal(3, 3)),
            ("bij,bjk->bki", normal(2, 3, 4), normal(2, 4, 5)),
            ("...ij,...jk->...ik", normal(2, 1, 3, 4), normal(5, 4, 2)),
            ("i,j,k->kji", normal(2), normal(3), normal(2)),
            ("ij,ij->", normal(2, 3), normal(2, 3)),
            ("abc,cd,de->aeb", normal(2, 3, 4), normal(4, 2), normal(2, 3)),
            ("ba", normal(2, 3)),
            ("...b,b...", normal(2, 3), normal(3, 2)),
        ],
        np.einsum,
        errors=[
            fails(
                lambda: nnlib.einsum("ij->k", ones(2, 2)),
                ShapeError,
                "the result names 'k', no operand does",
            ),
            fails(
                lambda: nnlib.einsum("ij", ones(2)),
                ShapeError,
                "operand 0 has 1 dimensions, its term 'ij' names 2",
            ),
            fails(
                lambda: nnlib.einsum("i,j", ones(2)),
                ShapeError,
                "has 2 terms, got 1 operands",
            ),
            fails(
                lambda: nnlib.einsum("i1", ones(2, 2)), DTypeError, "expected letters"
            ),
            fails(
                lambda: nnlib.einsum("i,i", ones(2), ones(3)),
                ShapeError,
                "the index 'i' has lengths 2 and 3",
            ),
            fails(lambda: nnlib.einsum("i->ii", ones(2)), ShapeError, "'i' twice"),
        ],
        empty=False,
    ),
]
