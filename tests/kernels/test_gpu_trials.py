"""Which way calls on CUDA go, as far as that is decided without a GPU."""

from __future__ import annotations

import re
import types

import numpy as np
import pytest

from nnlib.kernels import convolution, normalization_planes, persistent
from nnlib.kernels.machinery import gpu
from nnlib.kernels.machinery.arrays import DeviceArray


@pytest.mark.parametrize("turned", [False, True])
def test_patches_of_turned_images_are_read_where_they_lie(turned, monkeypatch):
    # Many filters go by patches; the fast way counts from the first element upwards.
    seen = set()

    def note(launch):
        seen.add(launch.kernel.__name__)

    monkeypatch.setattr(gpu, "tests_launcher", note)
    x = np.zeros((2, 5, 6, 8), np.float32).transpose(0, 3, 1, 2)
    x = (x[..., ::-1] if turned else x).view(DeviceArray)
    weight = np.zeros((128, 8, 3, 3), np.float32).view(DeviceArray)
    # No launch runs, so that the product reads patches that nothing wrote.
    with np.errstate(all="ignore"):
        convolution.convolve(x, weight, None, (5, 6), (1, 1), (1, 1), (1, 1), 1)
    assert seen == {"patches_any_cuda" if turned else "patches_cuda"}


def test_flat_launches_refuse_arrays_with_gaps(monkeypatch):
    # A launch knows such arrays by their size alone.
    monkeypatch.setattr(gpu, "tests_launcher", lambda launch: None)
    kernel = gpu.CudaKernel(lambda x: None, 32)
    dense, apart = np.zeros((4, 6)).T, np.zeros(12)[::2]
    kernel(dense.view(DeviceArray), items=24, flat=True)
    with pytest.raises(ValueError, match="a flat launch: shape .6,., strides .16,."):
        kernel(apart.view(DeviceArray), items=6, flat=True)


def test_planes_that_vectors_cannot_begin_at_are_copied(monkeypatch):
    # By single elements, no group of threads would hold a plane of this size.
    starts = {}

    def note(launch):
        starts[launch.kernel.__name__] = launch.args[0].ctypes.data % 16

    monkeypatch.setattr(gpu, "tests_launcher", note)
    shape = (1, 2, 64 * 64)
    x = np.zeros(shape, np.float32).view(DeviceArray)
    apart = np.zeros(x.size + 1, np.float32).view(DeviceArray)[1:].reshape(shape)
    v = np.zeros((1, 2), np.float32).view(DeviceArray)
    assert normalization_planes.fits(x) and apart.ctypes.data % 16
    normalization_planes.slopes(apart, x, v, v, None)
    normalization_planes.input_gradient(apart, x, v, v, v, v)
    assert starts == {"plane_sums_4_4": 0, "join_sums_cuda": 0, "plane_gradient_4_4": 0}


class Array(np.ndarray):
    """A host array that can be asked for its values as a CuPy array can."""

    def get(self):
        return np.array(self)


@pytest.mark.parametrize(
    ("written", "capturing", "verdict", "warning"),
    [
        (1.0, False, True, None),
        (2.0, False, False, "wrong in its trial"),
        (None, False, False, "failed .ValueError: no room. in its trial"),
        (1.0, True, None, None),
    ],
)
def test_trial_of_a_recurrent_kernel(
    written, capturing, verdict, warning, monkeypatch, recwarn
):
    launches, plains, verdicts = [], [], {}

    def launch(kernel, layout, given, *rest):
        launches.append(kernel)
        if written is None:
            raise ValueError("no room")
        given[-1][...] = written

    def plain():
        plains.append(True)
        given[-1][...] = 1.0

    space = types.SimpleNamespace
    fake = space(cuda=space(runtime=space(getDevice=lambda: 0)))
    monkeypatch.setattr(persistent.backend, "cupy", lambda: fake)
    monkeypatch.setattr(persistent.driver, "capturing", lambda: capturing)
    monkeypatch.setattr(persistent, "launch", launch)
    monkeypatch.setattr(persistent, "_verdicts", verdicts)
    given = np.zeros(3).view(Array), np.zeros(3).view(Array)
    kernel, layout = space(name="kernel"), persistent.Plan(1, 1, 1, 1, 16)
    for _ in range(2):
        persistent.run(kernel, layout, given, (), None, False, 1, plain)
    # The trial runs both ways, after it the one that was found right; a recording
    # goes the plain way and decides nothing.
    expected = {True: (2, 1), False: (1, 2), None: (0, 2)}[verdict]
    assert (len(launches), len(plains)) == expected
    assert verdicts.get(("kernel", 0, False)) is verdict
    assert (given[-1] == 1.0).all()
    if warning is None:
        assert not recwarn.list
    else:
        (found,) = recwarn.list
        assert re.search(warning, str(found.message))
