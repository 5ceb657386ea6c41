"""How operations run over a batch: rules by kind of operation.

A rule is called with the level, the operation's class, its arguments and parameters,
some of the arguments batched, and returns the result with the batch in front; or
NotImplemented, and the operation is run sample by sample. An operation without a rule
here is run so as well: a rule is there for speed alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nnlib.autograd.function import Function
from nnlib.autograd.promotion import promote_arguments
from nnlib.autograd.tensor import Tensor
from nnlib.backend.device import array_module, context_of
from nnlib.ops import arange, matmul, reshape
from nnlib.ops.products import interleaved

__all__ = ["ELEMENTWISE", "RULES", "find_rule"]

Rule = Callable[[Any, type[Function], tuple[Any, ...], dict[str, Any]], Any]

# Operations that work element by element and broadcast their arguments; or along a
# dimension that is counted from the end.
ELEMENTWISE = frozenset(
    """
    Abs Acos Acosh Add AddDiv AddMul AddScaled Asin Asinh Atan Atan2 Atanh Bitwise
    Cast Celu Clamp Clip Clone Close Compare Contiguous CopySign Cos Cosh
    CosineSimilarity Digamma Div Elu Erf Erfc Erfinv Exp Exp2 Expm1 Extremum
    FExtremum Frac Gate Gelu GeluTanh HardShrink HardSigmoid HardSwish Hypot Ldexp
    LeakyRelu Log Log1p LogAddExp LogAddExp2 LogBase LogGamma LogSigmoid Logical
    MaskedFill Mish Mul NanToNum Neg NextAfter Pairwise Polygamma Pow PowScalar
    Reciprocal Relu Remainder Round RoundedQuotient Rsqrt Selu Sigmoid
    SigmoidBackward Silu Sin Sinc Sinh Slope SoftShrink Softplus Softsign Sqrt
    Square Step Sub Tan Tanh TanhBackward TanhShrink Test Threshold Transfer Where
    """.split()
)

# Operations with one dimension as a parameter, over one or several tensors of the
# same number of dimensions.
ONE_DIM = frozenset(
    """
    Cat CumExtreme CumProd CumSum Diff ExtremeAt Kth LogCumSumExp LogSoftmax
    LogSoftmaxBackward Median Mode Prod Softmax SoftmaxBackward Sort Stack TakeAlong
    TopK
    """.split()
)

# Reductions over some dimensions or (None) all.
SOME_DIMS = frozenset(
    "Both CountNonzero Extreme LogSumExp Mean NanSum Sum Var VarMean VectorNorm".split()
)

# Operations on the last two dimensions of one tensor.
LAST_TWO = frozenset(
    "Cholesky Cofactor Determinant Inverse LogDeterminant QR Eigh".split()
)


def find_rule(cls: type[Function]) -> Rule | None:
    """Return the rule of an operation of this library, or None."""
    for kind in cls.__mro__:
        if kind.__name__ in RULES and kind.__module__.startswith("nnlib.ops."):
            return RULES[kind.__name__]
    return None


def elementwise(level: Any, cls: Any, args: Any, params: Any) -> Any:
    """Put all batches in front and let the rest broadcast."""
    # What one sample would be promoted to: the batch must not change a tensor's rank.
    if cls.promotes is not None:
        samples = [_example(x) if level.has(x) else x for x in args]
        promoted = promote_arguments(cls.promotes, samples)
        if promoted is not None:
            dtype = next(x.dtype for x in promoted if isinstance(x, Tensor))
            args = [_cast(level, x, dtype) for x in args]
    most = max(x.ndim for x in args if hasattr(x, "ndim"))
    values = []
    for x in args:
        if level.has(x):
            shape = tuple(x.shape)
            value = x._value
            if len(shape) < most:
                # (B, *shape) -> (B, 1, ..., *shape)
                value = reshape(
                    value, (level.size, *(1,) * (most - len(shape)), *shape)
                )
            values.append(value)
        else:
            values.append(x)
    return cls.apply(*values, **params)


def _example(x: Any) -> Tensor:
    """Return a tensor of the shape and dtype of a sample."""
    like = x._value._array
    with context_of(like):
        zeros = array_module(like).zeros(like.shape[1:], like.dtype)
    return Tensor._from_array(zeros)


def _cast(level: Any, x: Any, dtype: Any) -> Any:
    if not isinstance(x, Tensor) or x.dtype == dtype:
        return x
    if level.has(x):
        return level.wrap(level.value(x).to(dtype))
    return x.to(dtype)


def one_dim(level: Any, cls: Any, args: Any, params: Any) -> Any:
    """Count the dimension one further; all tensors get the batch."""
    dim = params["dim"]
    if dim is None:
        return NotImplemented
    first = next(x for x in args if isinstance(x, Tensor))
    count = first.ndim + (cls.__name__ == "Stack")
    if count == 0:
        return NotImplemented
    values = [level.value(x) if isinstance(x, Tensor) else x for x in args]
    return cls.apply(*values, **{**params, "dim": dim % count + 1})


def some_dims(level: Any, cls: Any, args: Any, params: Any) -> Any:
    """Count the dimensions one further; None is all but the batch."""
    (x,) = args
    dims = params["dims"]
    if isinstance(dims, int):
        dims = (dims,)
    count = x.ndim
    if dims is None:
        dims = tuple(range(count))
    elif not dims:
        return NotImplemented
    shifted = tuple(dim % count + 1 for dim in dims)
    if not shifted:
        # One number per sample: every reduction of it alone, without the batch.
        return NotImplemented
    return cls.apply(x._value, **{**params, "dims": shifted})


def with_shape(level: Any, cls: Any, args: Any, params: Any) -> Any:
    """Put the batch in front of the shape."""
    (x,) = args
    value, shape = x._value, params["shape"]
    if cls.__name__ == "Expand" and len(shape) > x.ndim:
        # (B, *shape) -> (B, 1, ..., *shape)
        lead = (1,) * (len(shape) - x.ndim)
        value = reshape(value, (level.size, *lead, *x.shape))
    return cls.apply(value, **{**params, "shape": (level.size, *shape)})


def narrow(level: Any, cls: Any, args: Any, params: Any) -> Any:
    """Count the dimension one further."""
    (x,) = args
    return cls.apply(x._value, **{**params, "dim": params["dim"] % x.ndim + 1})


def unbind(level: Any, cls: Any, args: Any, params: Any) -> Any:
    """Count the dimension one further, for a result of several tensors."""
    return narrow(level, cls, args, params)


def permute(level: Any, cls: Any, args: Any, params: Any) -> Any:
    """Leave the batch in front."""
    (x,) = args
    dims = tuple(dim % x.ndim + 1 for dim in params["dims"])
    return cls.apply(x._value, **{**params, "dims": (0, *dims)})


def flip(level: Any, cls: Any, args: Any, params: Any) -> Any:
    """Count the dimensions one further."""
    (x,) = args
    dims = tuple(dim % x.ndim + 1 for dim in params["dims"])
    return cls.apply(x._value, **{**params, "dims": dims})


def slicing(level: Any, cls: Any, args: Any, params: Any) -> Any:
    """Take all of the batch."""
    (x,) = args
    key = params["key"]
    key = key if isinstance(key, tuple) else (key,)
    return cls.apply(x._value, **{**params, "key": (slice(None), *key)})


def last_two(level: Any, cls: Any, args: Any, params: Any) -> Any:
    """Nothing to do: the operation takes batches itself."""
    (x,) = args
    return cls.apply(x._value, **params)


def product(level: Any, cls: Any, args: Any, params: Any) -> Any:
    """Multiply matrices, or vectors made matrices, with the batch in front."""
    a, b = args
    rank_a, rank_b = a.ndim, b.ndim
    if level.has(a) and not level.has(b) and rank_b == 2 and rank_a >= 1:
        return matmul(a._value, b)
    x, y = level.value(a), level.value(b)
    if rank_a == 1:
        x = reshape(x, (level.size, 1, *a.shape))  # (B, K) -> (B, 1, K)
    if rank_b == 1:
        y = reshape(y, (level.size, *b.shape, 1))  # (B, K) -> (B, K, 1)
    most = max(x.ndim, y.ndim)
    x, y = _lift(x, most), _lift(y, most)
    out = matmul(x, y)
    shape = list(out.shape)
    if rank_b == 1:
        del shape[-1]
    if rank_a == 1:
        del shape[-1 if rank_b == 1 else -2]
    return reshape(out, tuple(shape)) if len(shape) < out.ndim else out


def _lift(x: Any, ndim: int) -> Any:
    """Put ones between the batch and the rest: (B, *shape) -> (B, 1, ..., *shape)."""
    if x.ndim == ndim:
        return x
    return reshape(x, (x.shape[0], *(1,) * (ndim - x.ndim), *x.shape[1:]))


def add_product(level: Any, cls: Any, args: Any, params: Any) -> Any:
    """Multiply with the batch in front, and add."""
    x, a, b = args
    if cls.__name__ == "AddOuter":
        left, right = level.value(a), level.value(b)
        # (B, M), (B, N) -> (B, M, 1) * (B, 1, N)
        out = reshape(left, (level.size, -1, 1)) * reshape(right, (level.size, 1, -1))
    else:
        out = product(level, cls, (a, b), {})
    beta, alpha = params.get("beta", 1), params.get("alpha", 1)
    if alpha != 1:
        out = out * alpha
    if beta == 0:
        return out
    shift = _lift(level.value(x), out.ndim)
    return (shift if beta == 1 else shift * beta) + out


def kron(level: Any, cls: Any, args: Any, params: Any) -> Any:
    """Lay the factors across each other, with the batch in front."""
    x, y = args
    wide_x, wide_y, shape = interleaved(tuple(x.shape), tuple(y.shape))
    left = reshape(level.value(x), (level.size, *wide_x))
    right = reshape(level.value(y), (level.size, *wide_y))
    return reshape(left * right, (level.size, *shape))


def diagonal(level: Any, cls: Any, args: Any, params: Any) -> Any:
    """Count both dimensions one further."""
    (x,) = args
    offset, dim1, dim2 = params["place"]
    place = (offset, dim1 % x.ndim + 1, dim2 % x.ndim + 1)
    return cls.apply(x._value, place=place)


def trace(level: Any, cls: Any, args: Any, params: Any) -> Any:
    """Add up the diagonal of each matrix."""
    (x,) = args
    return x._value.diagonal(0, 1, 2).sum(-1)


def take(level: Any, cls: Any, args: Any, params: Any) -> Any:
    """Take from all samples laid end to end."""
    x, index = args
    if not level.has(x):
        return cls.apply(x, index._value)
    size = x._array.size
    if not size:
        return NotImplemented
    places = level.value(index) % size
    starts = arange(0, level.size * size, size, device=x.device)
    starts = reshape(starts, (level.size, *(1,) * (places.ndim - 1)))
    return cls.apply(x._value, places + starts)


def linear(level: Any, cls: Any, args: Any, params: Any) -> Any:
    """One product for a shared weight; a product per sample otherwise."""
    x, weight, *rest = args
    bias = rest[0] if rest else None
    if level.has(x) and not level.has(weight) and not level.has(bias):
        return cls.apply(x._value, weight, *rest)
    turned = level.value(weight).swapaxes(-1, -2)  # (B, out, in) -> (B, in, out)
    value = level.value(x)
    if x.ndim == 1:
        value = reshape(value, (level.size, 1, *x.shape))
    value = matmul(value, _lift(turned, max(3, value.ndim)))
    if bias is not None:
        shift = level.value(bias) if level.has(bias) else bias
        value = value + (_lift(shift, value.ndim) if level.has(bias) else shift)
    if x.ndim == 1:
        value = reshape(value, (level.size, *value.shape[2:]))
    return value


def point_loss(level: Any, cls: Any, args: Any, params: Any) -> Any:
    """Leave the reduction to a reduction that knows the batch."""
    values = [level.value(x) if isinstance(x, Tensor) else x for x in args]
    out = cls.apply(*values, **{**params, "reduction": "none"})
    return _reduce(out, params["reduction"])


def _reduce(out: Any, reduction: str) -> Any:
    dims = tuple(range(1, out.ndim))
    if reduction == "none" or not dims:
        return out
    return out.mean(dims) if reduction == "mean" else out.sum(dims)


def cross_entropy(level: Any, cls: Any, args: Any, params: Any) -> Any:
    """Make samples and batch one batch; divide by the labels that count."""
    x, labels = args
    mean = params["reduction"] == "mean"
    if mean and params["weight"] is not None:
        return NotImplemented
    logits, classes = level.value(x), level.value(labels)
    if x.ndim > 1:
        # (B, N, C, ...) -> (B*N, C, ...)
        logits = reshape(logits, (-1, *x.shape[1:]))
    rows = reshape(classes, (-1, *labels.shape[1:]))
    out = cls.apply(logits, rows, **{**params, "reduction": "none"})
    out = reshape(out, (level.size, *labels.shape))
    if not mean:
        return _reduce(out, params["reduction"])
    counted = (classes != params["ignore"]).to(out.dtype)
    if labels.ndim:
        counted = counted.sum(tuple(range(1, counted.ndim)))
    return _reduce(out, "sum") / counted.clamp(min=1)


def grid_sample(level: Any, cls: Any, args: Any, params: Any) -> Any:
    """Make samples and batch one batch."""
    count = args[0].shape[0]
    # (B, N, ...) -> (B*N, ...)
    values = [reshape(level.value(x), (level.size * count, *x.shape[1:])) for x in args]
    out = cls.apply(*values, **params)
    return reshape(out, (level.size, count, *out.shape[1:]))


RULES: dict[str, Rule] = {
    **dict.fromkeys(ELEMENTWISE, elementwise),
    **dict.fromkeys(ONE_DIM, one_dim),
    **dict.fromkeys(SOME_DIMS, some_dims),
    **dict.fromkeys(LAST_TWO, last_two),
    **dict.fromkeys(("Reshape", "Expand"), with_shape),
    **dict.fromkeys(("MatMul", "MatVec", "Dot"), product),
    **dict.fromkeys(("Narrow", "Split", "Unbind"), narrow),
    **dict.fromkeys(("AddProduct", "AddMatVec", "AddOuter"), add_product),
    "CrossEntropy": cross_entropy,
    "Diagonal": diagonal,
    "Flip": flip,
    "GridSample": grid_sample,
    "Kron": kron,
    "Linear": linear,
    "Permute": permute,
    "PointLoss": point_loss,
    "Slice": slicing,
    "Take": take,
    "Trace": trace,
}
