"""``nnlib kernels``: the kernels, their targets and signatures, and what is cached.

``--warm`` compiles what training usually needs. What is usual is not guessed from the
kernels' text: a recipe per family calls its public functions on small float32 arrays
(one size for the loop of a single thread, one for the pool), the element-wise families
through the objects that they register; so exactly those signatures are compiled that
such calls ask for, on the CPU, and on CUDA where there is a device.
"""

from __future__ import annotations

import gc
import importlib
import json
import pkgutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nnlib
from nnlib import kernels
from nnlib.backend.device import is_available
from nnlib.backend.errors import Error

__all__ = ["RECIPES", "Row", "Warmed", "families", "kernels_text", "rows", "warm"]

# The first size is done by one thread, the second by the pool.
_SIZES = (64, 65536)


# -- what is usual --------------------------------------------------------------------


def _arrays(device: str, count: int, *shape: int) -> list[Any]:
    generator = nnlib.Generator().manual_seed(0)
    return [
        nnlib.rand(*shape, generator=generator, device=device).array
        for _ in range(count)
    ]


def _elementwise(name: str) -> Callable[[str], None]:
    def run(device: str) -> None:
        from nnlib.kernels.elementwise import BiasMap, Gradient, Map

        for kernel in vars(getattr(kernels, name)).values():
            for size in _SIZES:
                x, y = _arrays(device, 2, size // 16, 16)
                if isinstance(kernel, Map):
                    kernel(x)
                elif isinstance(kernel, Gradient):
                    kernel(x, y)
                elif isinstance(kernel, BiasMap):
                    kernel(x, y[0])

    return run


def _linear(device: str) -> None:
    """Linear layers, forward and backward: matrix products, sums of columns."""
    for batch, width in ((4, 8), (128, 512)):
        x, w = (nnlib.as_tensor(a) for a in _arrays(device, 2, batch, width))
        layer = nnlib.nn.Linear(width, width).to(device)
        hidden = nnlib.nn.functional.relu(layer(x.requires_grad_()))
        (layer(hidden) * w).sum().backward()


def _reductions(device: str) -> None:
    for rows_ in (4, 4096):
        (x,) = (nnlib.as_tensor(a) for a in _arrays(device, 1, rows_, 32))
        for value in (x, x.reshape(-1)):
            value.sum(), value.mean(), value.amax(), value.amin()
        x.sum(0), x.sum(1), x.mean(1), x.amax(1), x.amin(1)


def _softmax(device: str) -> None:
    for rows_ in (4, 4096):
        (x,) = (
            nnlib.as_tensor(a).requires_grad_() for a in _arrays(device, 1, rows_, 32)
        )
        for function in (nnlib.softmax, nnlib.log_softmax):
            (function(x, 1) * x.detach()).sum().backward()


def _cross_entropy(device: str) -> None:
    for rows_ in (4, 4096):
        (x,) = (
            nnlib.as_tensor(a).requires_grad_() for a in _arrays(device, 1, rows_, 32)
        )
        target = nnlib.zeros(rows_, dtype="int64", device=device)
        nnlib.nn.functional.cross_entropy(x, target).backward()


def _random(device: str) -> None:
    for size in _SIZES:
        nnlib.rand(size, device=device)
        nnlib.randint(0, 9, (size,), device=device)
        nnlib.bernoulli(nnlib.full((size,), 0.5, device=device))


def _normal(device: str) -> None:
    for size in _SIZES:
        nnlib.randn(size, device=device)


def _dropout(device: str) -> None:
    for size in _SIZES:
        x = nnlib.ones(size, device=device, requires_grad=True)
        nnlib.nn.functional.dropout(x, 0.5, training=True).sum().backward()


def _optimizers(device: str) -> None:
    optim = nnlib.optim
    for size in _SIZES:
        for name, options in (
            ("SGD", {"lr": 0.1}),
            ("SGD", {"lr": 0.1, "momentum": 0.9}),
            ("Adam", {}),
            ("AdamW", {}),
            ("RMSprop", {}),
            ("Adagrad", {}),
            ("Adadelta", {}),
            ("Adamax", {}),
            ("NAdam", {}),
            ("RAdam", {}),
        ):
            parameter = nnlib.nn.Parameter(nnlib.ones(size, device=device))
            parameter.grad = nnlib.ones(size, device=device)
            getattr(optim, name)([parameter], **options).step()


def _embedding(device: str) -> None:
    for count in (4, 4096):
        table = nnlib.ones(64, 16, device=device, requires_grad=True)
        chosen = nnlib.zeros(count, dtype="int64", device=device)
        nnlib.index_select(table, 0, chosen).sum().backward()


def _arithmetic(device: str) -> None:
    for size in _SIZES:
        x, y = (nnlib.as_tensor(a) for a in _arrays(device, 2, size))
        x + y, x - y, x * y, x / y


def _convolution(device: str) -> None:
    nn = nnlib.nn
    for batch, channels, groups in ((2, 3, 1), (32, 32, 1), (8, 32, 32)):
        (images,) = _arrays(device, 1, batch, channels, 16, 16)
        x = nnlib.as_tensor(images).requires_grad_()
        for size in (3, 5, 1):
            layer = nn.Conv2d(
                channels, channels, size, padding=size // 2, groups=groups
            )
            layer.to(device)(x).sum().backward()


def _windows(device: str) -> None:
    nn = nnlib.nn
    for batch in (2, 64):
        (images,) = _arrays(device, 1, batch, 16, 16, 16)
        x = nnlib.as_tensor(images).requires_grad_()
        for name, arguments in (("MaxPool2d", (2,)), ("AvgPool2d", (2,))):
            layer = getattr(nn, name, None)
            if layer is not None:
                layer(*arguments)(x).sum().backward()


def _normalization(device: str) -> None:
    nn = nnlib.nn
    for batch in (2, 64):
        (images,) = _arrays(device, 1, batch, 16, 16, 16)
        x = nnlib.as_tensor(images).requires_grad_()
        for name, arguments in (("BatchNorm2d", (16,)), ("LayerNorm", (16,))):
            layer = getattr(nn, name, None)
            if layer is not None:
                layer(*arguments).to(device)(x).sum().backward()


RECIPES: dict[str, Callable[[str], None]] = {
    "gemm": _linear,
    "activation": _elementwise("activation"),
    "loss": _elementwise("loss"),
    "arithmetic": _arithmetic,
    "reduction": _reductions,
    "softmax": _softmax,
    "softmax_cross_entropy": _cross_entropy,
    "optimizer": _optimizers,
    "philox": _random,
    "normal": _normal,
    "dropout": _dropout,
    "add_rows": _embedding,
    "convolution": _convolution,
    "pooling": _windows,
    "normalization": _normalization,
}


@dataclass
class Warmed:
    """What a warm-up did.

    Attributes
    ----------
    done : list of str
        The recipes that ran, each once per device.
    failed : dict of str to str
        What a recipe raised.
    """

    done: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)


def warm(names: Iterable[str] = (), device: str | None = None) -> Warmed:
    """Compile what training usually needs, or load it from the cache.

    Parameters
    ----------
    names : iterable of str
        Keys of `RECIPES`; all of them if empty.
    device : str, optional
        ``"cpu"`` or ``"cuda"``; by default the CPU, and CUDA where it can be used.

    Raises
    ------
    Error
        If a name is not known.
    """
    chosen = list(names) or list(RECIPES)
    unknown = [name for name in chosen if name not in RECIPES]
    if unknown:
        raise Error(
            f"kernels: --warm: no recipe is called {unknown[0]!r}; there are "
            f"{', '.join(RECIPES)}"
        )
    devices = [device] if device else ["cpu", *(["cuda"] if is_available() else [])]
    warmed = Warmed()
    for where in devices:
        for name in chosen:
            try:
                RECIPES[name](where)
            except Exception as error:  # noqa: BLE001 - the others are worth having
                warmed.failed[name] = f"{type(error).__name__}: {error}"
            else:
                warmed.done.append(f"{name} ({where})")
    return warmed


# -- what there is --------------------------------------------------------------------


@dataclass
class Row:
    """One kernel.

    Attributes
    ----------
    family, name, target : str
        Its module, function, and ``"cpu"`` or ``"cuda"``.
    signatures : list of str
        CPU: the types that it is compiled for in the cache. CUDA: the architectures of
        its cubins, with registers per thread.
    fixed : bool
        Compiled for signatures that its file lists, whatever the arguments.
    """

    family: str
    name: str
    target: str
    signatures: list[str]
    fixed: bool = False

    @property
    def state(self) -> str:
        """Return what the cache holds, in words."""
        if not self.signatures:
            return "not cached"
        return f"{len(self.signatures)} cached"


def families() -> list[str]:
    """Load every kernel family; return their names."""
    found = [module.name for module in pkgutil.iter_modules(kernels.__path__)]
    for name in found:
        importlib.import_module(f"nnlib.kernels.{name}")
    return found


def rows() -> list[Row]:
    """Return every kernel of the library, in order of family and name."""
    from nnlib.kernels.machinery import CpuKernel, cache, gpu

    families()
    folder = cache.folder()
    found: dict[tuple[str, str, str], Row] = {}
    # CPU kernels keep no list of themselves, and some live in closures. By `type`:
    # `isinstance` would wake other libraries' lazy objects.
    cpu = [item for item in gc.get_objects() if type(item) is CpuKernel]
    for kernel in cpu:
        row = _row(kernel, "cpu", _cpu_signatures(kernel))
        if row is not None:
            row.fixed = bool(kernel._signatures)
            found[row.family, row.name, row.target] = row
    for loop in gpu.registry.values():
        row = _row(loop, "cuda", _cubins(folder, loop.function.__name__))
        if row is not None:
            found[row.family, row.name, row.target] = row
    return [found[key] for key in sorted(found)]


def _row(kernel: Any, target: str, signatures: list[str]) -> Row | None:
    prefix = f"{kernels.__name__}."
    if not kernel.name.startswith(prefix):
        return None
    family, _, name = kernel.name.removeprefix(prefix).partition(".")
    return Row(family, name, target, signatures)


def _cpu_signatures(kernel: Any) -> list[str]:
    """Read the index that Numba keeps beside the compiled code."""
    from nnlib.kernels.machinery import cache

    if cache.folder() is None:
        return []
    index = cache._KernelCache(kernel.function)._cache_file._load_index()
    # A key begins with the types of the arguments, or with a whole signature.
    types = [getattr(key[0], "args", key[0]) for key in index]
    return sorted({", ".join(map(str, kinds)) for kinds in types})


def _cubins(folder: Path | None, name: str) -> list[str]:
    found = []
    for path in sorted(folder.glob(f"{name}-*.cubin")) if folder is not None else ():
        try:
            with path.open("rb") as stream:
                registers = json.loads(stream.readline())["registers"]
        except (OSError, ValueError, KeyError):
            # Torn: the next launch compiles it again.
            continue
        found.append(f"{path.name.split('.')[-2]}, {registers} registers")
    return found


def kernels_text(names: Sequence[str] = (), *, signatures: bool = False) -> str:
    """Return what ``nnlib kernels`` prints.

    Parameters
    ----------
    names : sequence of str
        Parts of ``family.kernel`` to choose by; all if empty.
    signatures : bool, default False
        List the cached signatures below each kernel.

    Raises
    ------
    Error
        If no kernel has such a name.
    """
    from nnlib.kernels.machinery import cache

    chosen = [
        row
        for row in rows()
        if not names or any(part in f"{row.family}.{row.name}" for part in names)
    ]
    if not chosen:
        raise Error(f"kernels: no kernel's name contains {' or '.join(names)}")
    lines = [f"{'kernel':<52} {'target':<7} cache"]
    for row in chosen:
        mark = ", fixed signatures" if row.fixed else ""
        lines.append(
            f"{row.family + '.' + row.name:<52} {row.target:<7} {row.state}{mark}"
        )
        if signatures:
            lines += [f"    ({text})" for text in row.signatures]
    cached = sum(bool(row.signatures) for row in chosen)
    lines.append(f"{len(chosen)} kernels, {cached} of them cached in {cache.folder()}")
    return "\n".join(lines)
