"""``nnlib kernels``: the kernels, their targets and signatures, and what is cached.

``--warm`` compiles what training usually needs: what `nnlib.cli.recipes` calls.
"""

from __future__ import annotations

import gc
import importlib
import json
import pkgutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nnlib import kernels
from nnlib.backend.device import is_available
from nnlib.backend.errors import Error
from nnlib.cli.recipes import RECIPES

__all__ = ["Row", "Warmed", "families", "kernels_text", "rows", "warm"]


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
