"""What CUDA kernels leave behind and find before them: errors, tables on the device."""

from __future__ import annotations

import contextlib
import types

import numpy as np
import pytest

import nnlib
from nnlib.backend.errors import DeviceError
from nnlib.kernels import attention, convolution_cuda, recurrent
from nnlib.kernels.machinery import faults, gpu
from nnlib.kernels.machinery.arrays import DeviceArray, upload


def _label(position, value):
    return IndexError(f"label {value} at {position}")


def test_faults_are_told_at_the_next_synchronisation():
    labels = np.array([1, 7, -2], np.int64).view(DeviceArray)
    slots, slot = faults.open_slot(labels, _label)
    _, other = faults.open_slot(labels, lambda position, value: IndexError("none"))
    assert slot != other
    slots[slot] = min(slots[slot], 2)
    slots[slot] = min(slots[slot], 1)
    with pytest.raises(IndexError, match="label 7 at 1"):
        faults.check()
    faults.check()
    assert (slots == np.iinfo(np.int64).max).all()


@pytest.mark.parametrize("read", [nnlib.Tensor.item, bool, float, lambda x: 1.0 in x])
def test_faults_are_told_where_a_number_is_read(read):
    labels = np.array([1, 7], np.int64).view(DeviceArray)
    slots, slot = faults.open_slot(labels, _label)
    slots[slot] = 1
    loss = nnlib.Tensor._from_array(np.array(2.5).view(DeviceArray))
    with pytest.raises(IndexError, match="label 7 at 1"):
        read(loss)
    assert read(loss) in (2.5, True, False)


def test_slots_of_one_launch_are_read_together(monkeypatch):
    monkeypatch.setattr(faults, "_boards", {})
    monkeypatch.setattr(faults, "_SLOTS", 3)
    ids = np.array([1, 7], np.int64).view(DeviceArray)
    for _ in range(2):
        faults.open_slot(ids, _label)
    # Two more do not fit: those before are read first.
    opened = [faults.open_slot(ids, _label, more=1 - k) for k in range(2)]
    assert [slot for _, slot in opened] == [0, 1]
    for slots, slot in opened:
        slots[slot] = 1
    with pytest.raises(IndexError, match="label 7 at 1"):
        faults.check()


def test_faults_wait_for_other_streams(monkeypatch):
    waits, stream = [], [0]
    runtime = types.SimpleNamespace(deviceSynchronize=lambda: waits.append(True))
    fake = types.SimpleNamespace(cuda=types.SimpleNamespace(runtime=runtime))
    monkeypatch.setattr(faults.backend, "cupy", lambda: fake)
    monkeypatch.setattr(faults, "_stream", lambda like: stream[0])
    monkeypatch.setattr(faults, "_boards", {})
    labels = np.array([1, 7], np.int64).view(DeviceArray)
    for stream[0], expected in ((0, 0), (5, 1), (0, 1)):
        # The loop's number is the stream of the launch; it is read from stream 0.
        faults.open_slot(labels, _label)
        stream[0] = 0
        faults.check()
        assert len(waits) == expected


# -- tables that are kept on a device ------------------------------------------------


class Uploaded:
    """Stands for a CuPy array."""

    device = contextlib.nullcontext()


@pytest.mark.parametrize("capturing", [False, True])
def test_tables_are_there_before_they_are_kept(capturing, monkeypatch):
    asked = []

    def asarray(table, blocking):
        asked.append(blocking)
        return table

    module = types.SimpleNamespace(asarray=asarray)
    monkeypatch.setitem(gpu.backend.ARRAYS, Uploaded, module)
    monkeypatch.setattr(gpu.driver, "capturing", lambda: capturing)
    if capturing:
        with pytest.raises(DeviceError, match="pooling: a table must .* recorded"):
            upload(np.arange(3), Uploaded(), "pooling")
        assert not asked
        return
    upload(np.arange(3), Uploaded(), "pooling")
    upload(np.arange(3), Uploaded(), "pooling", wait=False)
    assert asked == [True, False]


@pytest.mark.parametrize(
    "keep",
    [
        lambda like: upload(np.arange(3), like, "pooling"),
        lambda like: convolution_cuda.no_bias(like, np.float32),
        lambda like: attention._tag(like, 3),
    ],
)
def test_what_is_kept_lies_where_its_key_says(keep, monkeypatch):
    # A launch on the current device is refused; later ones find what is kept.
    current, made = [0], []

    class Device:
        id = 1

        def __enter__(self):
            current.append(self.id)

        def __exit__(self, *_):
            current.pop()

    def make(*args, **kwargs):
        made.append(current[-1])

    module = types.SimpleNamespace(asarray=make, empty=make)
    like = Uploaded()
    like.device = Device()
    monkeypatch.setitem(gpu.backend.ARRAYS, Uploaded, module)
    monkeypatch.setattr(gpu.driver, "capturing", lambda: False)
    monkeypatch.setattr(convolution_cuda, "_tables", {})
    monkeypatch.setattr(attention, "_tags", {})
    keep(like)
    assert made == [1] and current == [0]


def test_offsets_of_a_recurrent_layer(monkeypatch):
    uploads, stream, capturing = [], [0], [False]

    def asarray(table, blocking):
        uploads.append(blocking)
        return table

    current = types.SimpleNamespace(
        get_current_stream=lambda: types.SimpleNamespace(ptr=stream[0])
    )
    module = types.SimpleNamespace(asarray=asarray, cuda=current)
    monkeypatch.setitem(gpu.backend.ARRAYS, Uploaded, module)
    monkeypatch.setattr(gpu.driver, "capturing", lambda: capturing[0])
    monkeypatch.setattr(recurrent, "_dense", {})
    monkeypatch.setattr(recurrent, "_packed", {})
    dense, packed = recurrent.steps_of([2, 2, 2]), recurrent.steps_of([3, 2])
    for stream[0] in (0, 0, 5):
        recurrent.offsets_of(dense, Uploaded())
        recurrent.offsets_of(packed, Uploaded())
    # Equal steps once, for all streams; others once on each stream.
    assert uploads == [True, False, False]
    capturing[0] = True
    recurrent.offsets_of(dense, Uploaded())
    for steps, message in (
        (packed, "packed sequences"),
        (recurrent.steps_of([4, 4]), "a table"),
    ):
        with pytest.raises(DeviceError, match=f"recurrent layer: .*{message}"):
            recurrent.offsets_of(steps, Uploaded())
