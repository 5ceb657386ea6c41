"""From a Python function to a cubin: Numba to PTX, nvJitLink to machine code.

Needs ``numba-cuda`` and no GPU. PTX is never handed to the driver: that of a newer NVVM
than the driver knows is refused, while a cubin is plain machine code. Cubins are kept
in the folder of `nnlib.kernels.machinery.cache`.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.metadata
import json
import os
import re
import sys
import threading
import types as python_types
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numba import types
from numba.np.numpy_support import from_dtype

from nnlib.backend.errors import DeviceError, DTypeError
from nnlib.kernels.machinery import cache

__all__ = ["Compiled", "compile_for", "signature_of", "use_cuda_module"]

_lock = threading.RLock()


@dataclass(frozen=True)
class Compiled:
    """A kernel compiled for one signature and one compute capability.

    Attributes
    ----------
    entry : str
        The name of the function in the cubin.
    cubin : bytes
        Machine code, which CuPy loads.
    registers, stack, spills, shared : int
        Per thread: registers, bytes of local arrays, bytes spilled to memory. Per
        block: bytes of static shared memory.
    ptx : str
        The intermediate code; empty when the kernel came from the cache folder.
    """

    entry: str
    cubin: bytes
    registers: int
    stack: int
    spills: int
    shared: int
    ptx: str = ""


def signature_of(args: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the Numba types of a launch's arguments.

    Examples
    --------
    >>> signature_of((np.zeros((2, 3), np.float32), 5))
    (Array(float32, 2, 'C', False, aligned=True), int64)
    """
    return tuple([_type_of(arg) for arg in args])


def _type_of(arg: Any) -> Any:
    if (
        hasattr(arg, "ndim")
        and hasattr(arg, "flags")
        and not isinstance(arg, np.generic)
    ):
        layout = "C" if arg.flags.c_contiguous else "A"
        array_type: Any = types.Array
        return array_type(_scalar(arg.dtype), arg.ndim, layout)
    if isinstance(arg, bool):
        return types.boolean
    if isinstance(arg, int):
        return types.int64
    if isinstance(arg, np.generic):
        return _scalar(arg.dtype)
    raise DTypeError(
        f"a CUDA kernel takes arrays, ints, bools and NumPy scalars, got "
        f"{type(arg).__name__}; hand a float over as x.dtype.type(value)"
    )


def _scalar(dtype: Any) -> Any:
    return types.boolean if dtype == np.bool_ else from_dtype(np.dtype(dtype))


def use_cuda_module(function: Any) -> Any:
    """Put the real ``numba.cuda`` where kernel modules hold its lazy stand-in."""
    try:
        # numba-cuda redirects this name to itself.
        with _removed_names():
            from numba import cuda as module

            # Else it is imported at the first compilation.
            importlib.import_module("numba.cuda.np.arrayobj")
    except ImportError as error:
        raise DeviceError(
            f"compiling for CUDA needs numba-cuda ({error}); "
            f'pip install "nnlib-dl[cuda13]"'
        ) from error
    from nnlib.kernels.machinery.gpu import LazyCuda

    spaces = [vars(m) for m in list(sys.modules.values()) if m is not None]
    spaces.append(function.__globals__)
    for space in spaces:
        if isinstance(space.get("cuda"), LazyCuda):
            space["cuda"] = module
    return module


@contextlib.contextmanager
def _removed_names() -> Iterator[None]:
    """Lend NumPy 2.5 the name that numba-cuda up to 0.30 asks it for at import."""
    if hasattr(np, "row_stack"):
        yield
        return
    space: Any = np
    space.row_stack = np.vstack
    try:
        yield
    finally:
        del space.row_stack


@contextlib.contextmanager
def _compute_capability(cc: tuple[int, int]) -> Iterator[None]:
    """Answer Numba's question for the current device: it needs no driver then."""
    dispatcher: Any = importlib.import_module("numba.cuda.dispatcher")
    before = dispatcher.get_current_device
    dispatcher.get_current_device = lambda: python_types.SimpleNamespace(
        compute_capability=cc
    )
    try:
        yield
    finally:
        dispatcher.get_current_device = before


def compile_for(
    function: Any, signature: tuple[Any, ...], cc: tuple[int, int], *, keep: bool = True
) -> Compiled:
    """Compile a CUDA loop for one signature and one compute capability.

    Parameters
    ----------
    function : callable or CudaKernel
        The Python function.
    signature : tuple of Numba types
        Its arguments, as `signature_of` gives them.
    cc : tuple of int
        The compute capability, such as ``(9, 0)``.
    keep : bool
        Look in the cache folder first, and leave the cubin there.

    Raises
    ------
    DeviceError
        If numba-cuda or nvJitLink is missing.
    """
    function = getattr(function, "function", function)
    path = _cubin_path(function, signature, cc) if keep else None
    if path is not None:
        found = _read(path)
        if found is not None:
            return found
    with _lock:
        compiled = _link(_to_ptx(function, signature, cc), cc)
    if path is not None:
        _write(path, compiled)
    return compiled


def _to_ptx(function: Any, signature: tuple[Any, ...], cc: tuple[int, int]) -> str:
    cuda = use_cuda_module(function)
    with _compute_capability(cc):
        ptx, _ = cuda.compile_ptx(function, signature, cc=cc)
    # Shared arrays begin where 16 bytes may be read at once: the simulator's do not
    # take an alignment as an argument.
    return re.sub(r"(\.shared \.align )[48]( \.b8)", r"\g<1>16\2", str(ptx))


def _link(ptx: str, cc: tuple[int, int]) -> Compiled:
    try:
        nvjitlink: Any = importlib.import_module("cuda.bindings.nvjitlink")
    except ImportError as error:
        raise DeviceError(
            f"linking a CUDA kernel needs nvJitLink ({error}); "
            f'pip install "nnlib-dl[cuda13]"'
        ) from error
    options = [f"-arch=sm_{cc[0]}{cc[1]}", "-verbose"]
    handle = nvjitlink.create(len(options), options)
    try:
        data = ptx.encode()
        nvjitlink.add_data(handle, nvjitlink.InputType.PTX, data, len(data), "kernel")
        nvjitlink.complete(handle)
        cubin = bytearray(nvjitlink.get_linked_cubin_size(handle))
        nvjitlink.get_linked_cubin(handle, cubin)
        log = bytearray(nvjitlink.get_info_log_size(handle))
        nvjitlink.get_info_log(handle, log)
    except Exception as error:
        text = bytearray(nvjitlink.get_error_log_size(handle))
        nvjitlink.get_error_log(handle, text)
        raise DeviceError(
            f"nvJitLink could not link a kernel for sm_{cc[0]}{cc[1]}: "
            f"{text.decode(errors='replace').strip()}"
        ) from error
    finally:
        nvjitlink.destroy(handle)
    entry = re.search(r"\.visible \.entry (\S+)\(", ptx)
    if entry is None:
        raise DeviceError("the PTX of a CUDA kernel has no entry point")
    return Compiled(entry[1], bytes(cubin), **_usage(log.decode()), ptx=ptx)


def _usage(log: str) -> dict[str, int]:
    """Read registers and memory out of nvJitLink's report."""

    def number(pattern: str) -> int:
        return max((int(value) for value in re.findall(pattern, log)), default=0)

    return {
        "registers": number(r"[Uu]sed (\d+) registers"),
        "stack": number(r"(\d+) bytes stack frame"),
        "spills": number(r"(\d+) bytes spill (?:stores|loads)"),
        "shared": number(r"(\d+) bytes smem"),
    }


def _toolchain() -> str:
    versions = []
    for name in ("numba-cuda", "nvidia-nvjitlink", "nvidia-nvvm", "cuda-bindings"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions.append(f"{name} {importlib.metadata.version(name)}")
    return " ".join(versions)


def _cubin_path(
    function: Any, signature: tuple[Any, ...], cc: tuple[int, int]
) -> Path | None:
    source = Path(function.__code__.co_filename).resolve()
    folder = cache.folder() if source.is_relative_to(cache.SOURCES) else None
    if folder is None:
        return None
    text = "\0".join((function.__module__, str(signature), _toolchain()))
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    return folder / f"{function.__name__}-{digest}.sm_{cc[0]}{cc[1]}.cubin"


def _read(path: Path) -> Compiled | None:
    try:
        head, _, cubin = path.read_bytes().partition(b"\n")
        facts = json.loads(head)
        if facts.pop("size") != len(cubin):
            return None
        return Compiled(cubin=cubin, **facts)
    except (OSError, ValueError, TypeError, KeyError):
        # Absent or torn: it is compiled again.
        return None


def _write(path: Path, compiled: Compiled) -> None:
    facts = asdict(compiled)
    cubin = facts.pop("cubin")
    del facts["ptx"]
    head = json.dumps({**facts, "size": len(cubin)}).encode()
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        temporary.write_bytes(head + b"\n" + cubin)
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
