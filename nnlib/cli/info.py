"""``nnlib info``: what is installed, what is used, and why something is not."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys

from nnlib.backend import cublas
from nnlib.backend.device import Device, cuda_status, cupy
from nnlib.backend.threads import available_cores, get_num_threads, pool

__all__ = ["describe_device", "info", "installed"]

_PACKAGES = (
    "numpy",
    "numba",
    "scipy-openblas64",
    "ml_dtypes",
    "safetensors",
    "numba-cuda",
    "cupy-cuda13x",
    "cupy-cuda12x",
    "matplotlib",
)


def info() -> str:
    """Return what ``nnlib info`` prints: one ``topic: value`` per line."""
    lines = [
        ("nnlib", installed("nnlib-dl")),
        ("python", f"{platform.python_version()} ({sys.executable})"),
        ("system", f"{platform.system()} {platform.release()} {platform.machine()}"),
        *((name, installed(name)) for name in _PACKAGES),
        *_cpu(),
        *_cuda(),
        *_folders(),
    ]
    width = max(len(topic) for topic, _ in lines) + 1
    return "\n".join(f"{topic + ':':<{width}} {value}" for topic, value in lines)


def describe_device(device: Device, asked: str = "auto") -> str:
    """Say which device is used, and why.

    Parameters
    ----------
    device : Device
        The one that is used.
    asked : str, default "auto"
        What the user asked for.

    Examples
    --------
    >>> describe_device(Device("cpu"), asked="cpu")
    'cpu, as asked'
    """
    if device.type == "cuda":
        name = f"{device} ({_gpu_name(device.index or 0)})"
        return name if asked == "auto" else f"{name}, as asked"
    if asked != "auto":
        return "cpu, as asked"
    status = cuda_status()
    return f"cpu, because {status.reason} (to use CUDA: {status.mend})"


def installed(package: str) -> str:
    """Return the version of a distribution, or "not installed"."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _cpu() -> list[tuple[str, str]]:
    # Numba is imported here, and the pool of threads started
    from nnlib.kernels.machinery.blas import blas_info

    blas = blas_info()
    note = f" ({blas.note})" if blas.note else ""
    threads = f"{get_num_threads()} of {available_cores()} cores"
    if pool.layer is not None:
        threads += f", {pool.layer}"
    return [("BLAS", f"{blas.name}{note}"), ("threads", threads)]


def _cuda() -> list[tuple[str, str]]:
    status = cuda_status()
    if not status.ok:
        return [("CUDA", f"not used: {status.reason}"), ("to mend it", status.mend)]
    runtime = cupy().cuda.runtime
    versions = f"driver {runtime.driverGetVersion()}, CuPy {cupy().__version__}"
    lines = [("CUDA", f"used; {versions}")]
    for index in range(runtime.getDeviceCount()):
        lines.append((f"cuda:{index}", _gpu_name(index)))
    return lines + _ways()


def _ways() -> list[tuple[str, str]]:
    """Say how kernels are launched and matrices multiplied; this tries both."""
    from nnlib.kernels.machinery import launch_check

    number = int(cupy().cuda.runtime.getDevice())
    launch_check.direct(number)
    cublas.tried("f")
    launches, products = launch_check.report(), cublas.report()
    return [
        ("CUDA launches", launches.get(number, "not tried")),
        ("CUDA products", products.get("float32", "not tried")),
    ]


def _gpu_name(index: int) -> str:
    properties = cupy().cuda.runtime.getDeviceProperties(index)
    memory = properties["totalGlobalMem"] / 2**30
    capability = f"{properties['major']}.{properties['minor']}"
    return f"{properties['name'].decode()}, {memory:.0f} GiB, sm {capability}"


def _folders() -> list[tuple[str, str]]:
    from nnlib.data.fetch import cache_folder
    from nnlib.kernels.machinery.cache import folder

    kernels = folder()
    if kernels is None:
        kept = "none: kernels are compiled anew in each process"
    else:
        files = [path for path in kernels.rglob("*") if path.is_file()]
        size = sum(path.stat().st_size for path in files) / 2**20
        kept = f"{kernels} ({len(files)} files, {size:.1f} MiB)"
    data = os.environ.get("NNLIB_DATA")
    try:
        downloads = str(cache_folder())
    except ImportError as error:
        downloads = f"none: {error}"
    return [
        ("kernel cache", kept),
        ("NNLIB_DATA", data or "not set"),
        ("data cache", downloads),
    ]
