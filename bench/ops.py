"""What an operation on tiny (3, 3) tensors costs, against PyTorch: the overhead.

python -m nnlib.bench.ops [--rounds N] [--only NAME...]

Every public operation that PyTorch has too and that a short expression calls is timed:
the call, recorded where it is differentiable, and the call with its backward pass.
The table is sorted by how much longer nnlib takes. Both libraries have one thread and
measure its time, so that a busy machine disturbs little.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from nnlib.bench.compare import Comparison, Pair
from nnlib.bench.options import at_least, command, require_cases

__all__ = ["CASES", "Cost", "build", "main", "run"]

# Calls of one step (so that a step is far above the resolution of the clock).
REPEATS = 20
BACKWARD = ", and backward"

# The names in the expressions: `lib` and `F` are the library and its nn.functional;
# float32: x and z, which require gradients, y, v of shape (3,), b of shape (2, 3, 3);
# i, j of shape (3,): int64; p, q: bool; w: 1 and -1; `even` has an even length,
# `positive` is symmetric and positive definite.
_UNARY = """
abs acos asin asinh atan atanh ceil cos cosh diag diagonal erf exp exp2 expm1 flatten
fliplr flipud floor frac log log10 log1p log2 logit neg ravel reciprocal relu round
rsqrt selu celu sigmoid sign sin sinc sinh sqrt square sum t tan tanh trace tril triu
trunc unbind clone mean prod var std norm amax amin max min median squeeze nan_to_num
nansum nanmean logical_not isnan isinf isfinite any all argmax argmin count_nonzero
nonzero sort argsort msort zeros_like ones_like empty_like rand_like randn_like
atleast_2d
"""
_BINARY = """
add sub mul div maximum minimum fmax fmin atan2 hypot logaddexp matmul mm pow eq ne lt
le gt ge isclose allclose equal remainder fmod kron inner tensordot
logical_and logical_or logical_xor
"""
_ACTIVATIONS = """
elu gelu hardshrink hardsigmoid hardswish hardtanh leaky_relu logsigmoid mish relu6
silu softplus softshrink softsign tanhshrink
"""
_LOSSES = """
mse_loss l1_loss smooth_l1_loss huber_loss binary_cross_entropy
binary_cross_entropy_with_logits poisson_nll_loss cosine_similarity pairwise_distance
"""
_CALLS = """
x + y|x * 2|x * z|2 - x|x / z|x @ z|-x|x ** 2|x > 0.5|x == y|x[0]|x[1:, :2]|x[j]|x[p]
x.reshape(-1)|x.view(9)|x.T|x.transpose(0, 1)|x.permute(1, 0)|x.expand(2, 3, 3)
x.repeat(2, 1)|x.unsqueeze(0)|x.contiguous()|x.double()|x.detach()|y.add_(0.0)|y.mul_(1)
y.zero_()|y.clamp_(0, 1)|x.sum(0)|x.mean(1, keepdim=True)|x.var(0)|x.std(1)|x.amax(0)
x.max(0)|x.min(1)|x.argmax(1)|x.any(0)|x.all(1)|x.prod(0)|x.logsumexp(0)|x.norm(dim=1)
x.median(0)|x.flip(0)|x.roll(1, 0)|x.rot90()|x.movedim(0, 1)|x.narrow(0, 0, 2)
x.select(0, 1)|x.chunk(3)|x.split(1)|x.unflatten(0, (3, 1))|x.cumsum(0)|x.cumprod(0)
x.logcumsumexp(0)|x.cummax(0)|x.cummin(0)|x.diff()|x.topk(2)|x.kthvalue(2)|x.aminmax()
x.mode()|x.clamp(0.2, 0.8)|x.clamp(min=0.2)|x.clamp_max(0.8)|x.masked_fill(p, 0.0)
x.masked_select(p)|x.gather(0, i)|x.index_select(0, j)|x.take_along_dim(i, 0)|x.take(j)
x.scatter(0, i, y)|x.scatter_add(0, i, y)|x.index_add(0, j, y)|x.index_fill(0, j, 0.0)
x.index_copy(0, j, y)|x.addmm(y, z)|x.lerp(y, 0.3)|x.addcmul(y, z)|x.addcdiv(y, z)
x.softmax(1)|x.log_softmax(1)|x.broadcast_to((2, 3, 3))|x.tile((2, 1))
x.repeat_interleave(2, 0)|x.swapaxes(0, 1)|x.add(y, alpha=2)
x.div(y, rounding_mode="floor")|v.dot(x[0])|b.bmm(b)|lib.outer(v, x[0])|lib.mv(x, v)
lib.addmv(v, x, v)|lib.addr(x, v, v)|lib.baddbmm(b, b, b)|lib.einsum("ij,jk->ik", x, z)
lib.where(p, x, y)|lib.where(p, x, 0.0)|lib.cat((x, z))|lib.stack((x, z))
lib.hstack((x, z))|lib.vstack((x, z))|lib.var_mean(x)|lib.std_mean(x)|lib.bincount(j)
lib.searchsorted(v, y)|lib.bucketize(y, v)|lib.zeros(3, 3)|lib.ones(3, 3)
lib.empty(3, 3)|lib.full((3, 3), 2.0)|lib.arange(9)|lib.eye(3)|lib.linspace(0, 1, 9)
lib.rand(3, 3)|lib.randn(3, 3)|lib.randint(5, (3, 3))|lib.randperm(9)|lib.bernoulli(y)
lib.multinomial(y, 2)|lib.meshgrid(v, v, indexing="ij")|lib.tril_indices(3, 3)|i + 1
i * i|i & i|i << 1|p & q|~p|i == i|F.linear(y, x, v)|F.dropout(x, 0.5)|F.softmax(x, 1)
F.log_softmax(x, 1)|F.softmin(x, 1)|F.glu(even)|F.normalize(x)|F.prelu(x, v)
F.threshold(x, 0.5, 0.0)|F.cross_entropy(x, j)|F.nll_loss(x, j)
F.multi_margin_loss(x, j)|F.margin_ranking_loss(x, y, w)|F.triplet_margin_loss(x, y, z)
F.cosine_embedding_loss(x, y, w[0])|F.soft_margin_loss(x, w)
F.hinge_embedding_loss(x, w)|F.kl_div(x, y, reduction="batchmean")
F.gaussian_nll_loss(x, y, z)|F.multilabel_soft_margin_loss(x, y)|F.pad(x, (1, 1))
F.one_hot(j, 3)|lib.linalg.inv(positive)|lib.linalg.det(positive)
lib.linalg.solve(positive, y)|lib.linalg.cholesky(positive)|lib.linalg.qr(positive)
lib.linalg.svd(positive)|lib.linalg.eigh(positive)|lib.linalg.norm(x)
lib.linalg.vector_norm(x)|lib.linalg.slogdet(positive)[1]|lib.histc(y)|lib.unique(i)
lib.floor_divide(y, y)|chain(x, y, 20)
"""
_RANDOM = ("rand", "dropout", "bernoulli", "multinomial", "empty")


def _cases() -> tuple[str, ...]:
    calls = [call for line in _CALLS.split("\n") for call in line.split("|") if call]
    return (
        *(f"lib.{name}(x)" for name in _UNARY.split()),
        *(f"lib.{name}(x, y)" for name in _BINARY.split()),
        *(f"F.{name}(x)" for name in _ACTIVATIONS.split()),
        *(f"F.{name}(x, y)" for name in _LOSSES.split()),
        *calls,
    )


CASES = _cases()


@dataclass
class Cost:
    """What one call takes in both libraries.

    Attributes
    ----------
    case : str
    nnlib_us, torch_us : float
        Median time of one call, in microseconds.
    ratio : float
        Median over rounds of nnlib's time divided by PyTorch's: below 1, nnlib is
        faster.
    agree : bool
        Whether both computed the same sum.
    """

    case: str
    nnlib_us: float
    torch_us: float
    ratio: float
    agree: bool

    def as_dict(self) -> dict[str, Any]:
        """Return the fields, for a results file."""
        return asdict(self)

    def row(self) -> str:
        """Return a row of the table that `HEADER` begins."""
        note = "" if self.agree else " (values differ)"
        return (
            f"| {self.case}{note} | {self.nnlib_us:.2f} | {self.torch_us:.2f} | "
            f"{self.ratio:.2f} |"
        )


HEADER = (
    "| case | nnlib, us | PyTorch, us | nnlib / PyTorch |\n| --- | --- | --- | --- |"
)


def chain(x: Any, y: Any, length: int) -> Any:
    """Multiply `length` times, every product recorded."""
    for _ in range(length):
        x = x * y
    return x


def _names(lib: Any) -> dict[str, Any]:
    """Return what the expressions of the cases name."""

    def tensor(rows: Any, requires_grad: bool = False) -> Any:
        return lib.tensor(rows, requires_grad=requires_grad)

    x = [[0.1, 0.5, 0.3], [0.7, 0.2, 0.9], [0.4, 0.8, 0.6]]
    y = [[0.2, 0.4, 0.6], [0.9, 0.3, 0.1], [0.7, 0.8, 0.5]]
    z = [[0.3, 0.9, 0.4], [0.5, 0.6, 0.8], [0.1, 0.7, 0.2]]
    return {
        "lib": lib,
        "F": lib.nn.functional,
        "chain": chain,
        "x": tensor(x, True),
        "y": tensor(y),
        "z": tensor(z, True),
        "v": tensor([0.2, 0.5, 0.8]),
        "b": tensor([x, y], True),
        "positive": tensor([[2.0, 0.5, 0.1], [0.5, 3.0, 0.2], [0.1, 0.2, 1.0]], True),
        "even": tensor([[0.1, 0.5], [0.7, 0.2]], True),
        "w": tensor([[1.0, -1.0, 1.0], [-1.0, 1.0, -1.0], [1.0, 1.0, -1.0]]),
        "i": tensor([[0, 2, 1], [1, 0, 2], [2, 1, 0]]),
        "j": tensor([2, 0, 1]),
        "p": tensor([[True, False, True], [False, True, False], [True, True, False]]),
        "q": tensor([[True, True, False], [False, False, True], [True, False, True]]),
    }


def _first(out: Any) -> Any:
    while isinstance(out, tuple | list):
        out = out[0]
    return out


def build(lib: Any, case: str) -> Callable[[], float]:
    """Return a step of `REPEATS` calls."""
    expression = case.removesuffix(BACKWARD)
    call = eval(f"lambda: {expression}", _names(lib))
    first = _first(call())
    if expression != case and not getattr(first, "requires_grad", False):
        return lambda: math.nan
    value = 0.0
    if hasattr(first, "detach") and not any(name in case for name in _RANDOM):
        value = float(first.detach().double().sum())
    if expression == case:

        def forward() -> float:
            for _ in range(REPEATS):
                call()
            return value

        return forward
    gradient = lib.ones_like(first.detach())

    def both() -> float:
        for _ in range(REPEATS):
            _first(call()).backward(gradient)
        return value

    return both


def run(rounds: int = 9, only: list[str] | None = None) -> list[Cost]:
    """Time every case, or those whose text holds one of `only`; print, worst first."""
    found = []
    with Pair(build, threads=1) as pair:
        for case in CASES:
            if only and not any(name in case for name in only):
                continue
            for name in (case, case + BACKWARD):
                # What has no gradient answers NaN.
                if not math.isnan(pair.turn(1, name, 1)[1]):
                    found.append(_cost(pair.time(name, rounds=rounds, budget=2e-3)))
    found.sort(key=lambda cost: -cost.ratio)
    print(HEADER)
    for cost in found:
        print(cost.row())
    return found


def _cost(result: Comparison) -> Cost:
    mine, theirs = result.nnlib_value, result.torch_value
    return Cost(
        result.case,
        result.nnlib_ms * 1e3 / REPEATS,
        result.torch_ms * 1e3 / REPEATS,
        1 / result.ratio,
        abs(mine - theirs) <= 1e-4 * max(1.0, abs(theirs)),
    )


def main() -> None:
    """Run from the command line."""
    parser = command("ops", __doc__)
    parser.add_argument("--rounds", type=at_least(2), default=9)
    parser.add_argument("--only", nargs="+", metavar="NAME", help="parts of cases")
    options = parser.parse_args()
    require_cases(run(options.rounds, options.only), options.only)


if __name__ == "__main__":
    main()
