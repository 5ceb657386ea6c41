"""CIFAR-10: both published forms, places, damaged files."""

from __future__ import annotations

import importlib.util
import io
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest

from nnlib.backend.errors import ShapeError
from nnlib.data import (
    CIFAR10,
    DataError,
    DownloadError,
    parse_cifar_binary,
    parse_cifar_pickle,
)
from nnlib.data import cifar as module

RNG = np.random.default_rng(0)


def records(count: int = 10_000) -> np.ndarray:
    found = RNG.integers(0, 256, (count, 3073), dtype=np.uint8)
    found[:, 0] %= 10
    return found


def pickled(rows: np.ndarray, protocol: int = 2) -> bytes:
    batch = {
        b"batch_label": b"batch 1 of 5",
        b"labels": rows[:, 0].tolist(),
        b"data": np.ascontiguousarray(rows[:, 1:]),
        b"filenames": [b"x.png"] * len(rows),
    }
    return pickle.dumps(batch, protocol=protocol)


@pytest.fixture
def alone(monkeypatch, tmp_path):
    """No data folder, an empty cache, no network."""
    import pooch

    def refuse(*args, **kwargs):
        raise OSError("no network")

    monkeypatch.delenv("NNLIB_DATA", raising=False)
    monkeypatch.setenv("NNLIB_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(pooch, "retrieve", refuse)
    return tmp_path


def test_both_forms_hold_the_same():
    rows = records(20)
    images, labels = parse_cifar_binary(rows.tobytes())
    assert images.shape == (20, 3, 32, 32) and images.dtype == np.uint8
    np.testing.assert_array_equal(images.reshape(20, -1), rows[:, 1:])
    np.testing.assert_array_equal(labels, rows[:, 0])
    assert images.flags.writeable and labels.dtype == np.int64
    for protocol in (0, 2, 4):
        again, same = parse_cifar_pickle(pickled(rows, protocol))
        np.testing.assert_array_equal(again, images)
        np.testing.assert_array_equal(same, labels)
        assert again.flags.writeable


def test_pickled_by_python_2():
    """The opcodes that Python 2 and NumPy 1 wrote: byte strings, numpy.core."""
    content = pickled(records(3)).replace(b"numpy._core", b"numpy.core")
    assert b"numpy.core.multiarray" in content
    assert parse_cifar_pickle(content)[0].shape == (3, 3, 32, 32)


class Evil:
    def __reduce__(self):
        return (print, ("this must not be printed",))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (pickle.dumps({"data": Evil(), "labels": []}), "it asks for builtins.print"),
        (pickle.dumps({"data": np.zeros((1, 3072)), "labels": [0]}, 2), "of bytes"),
        (pickle.dumps([1, 2]), "no CIFAR-10 batch"),
        (pickle.dumps({"labels": [1]}), "KeyError"),
        (pickled(records(2))[:-2000], "truncated or no CIFAR-10 batch"),
        (b"", "truncated or no"),
        (pickle.dumps({"data": np.zeros((2, 5), np.uint8), "labels": [1, 2]}, 2),
         r"expected data of shape \(N, 3072\) and N labels, got \(2, 5\)"),
        (pickled(np.full((2, 3073), 12, np.uint8)), "record 0 has the label 12"),
    ],
)  # fmt: skip
def test_bad_pickles(content, message, capsys):
    with pytest.raises(DataError, match=message):
        parse_cifar_pickle(content, "data_batch_1")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    "labels", [["a", "b"], [0.5, 1.0], [None, 1], [[1], [2]], 3, np.zeros(2, int)]
)
def test_labels_that_are_no_classes(labels):
    batch = {"data": np.zeros((2, 3072), np.uint8), "labels": labels}
    with pytest.raises(DataError, match="expected a list of ints as labels"):
        parse_cifar_pickle(pickle.dumps(batch, 2))


def test_bad_records():
    with pytest.raises(DataError, match="f.bin: truncated: .* 1 records and 27 bytes"):
        parse_cifar_binary(records(1).tobytes() + bytes(27), "f.bin")
    with pytest.raises(DataError, match="got 0 bytes"):
        parse_cifar_binary(b"")
    with pytest.raises(DataError, match="record 1 has the label 200, expected 0 to 9"):
        parse_cifar_binary(bytes(3073) + bytes([200]) + bytes(3072))


@pytest.mark.parametrize("folder", ["", "cifar10", "cifar10/cifar-10-batches-bin"])
def test_places_of_the_binary_version(alone, folder, monkeypatch):
    rows = records()
    (alone / folder).mkdir(parents=True, exist_ok=True)
    (alone / folder / "data_batch_2.bin").write_bytes(rows.tobytes())
    monkeypatch.setenv("NNLIB_DATA", str(alone))
    assert repr(CIFAR10(batches=2)) == "CIFAR10(10000 images of (3, 32, 32))"
    for data in (CIFAR10(batches=np.array([2])), CIFAR10(alone, batches=(2,))):
        np.testing.assert_array_equal(data.labels, rows[:, 0])
        assert data.images.shape == (10_000, 3, 32, 32) and len(data.classes) == 10
    with pytest.raises(DownloadError, match="no network.*set\nNNLIB_DATA|NNLIB_DATA"):
        CIFAR10()


def test_python_version_and_archive(alone):
    rows = records()
    folder = alone / "cifar-10-batches-py"
    folder.mkdir()
    (folder / "test_batch").write_bytes(pickled(rows))
    np.testing.assert_array_equal(CIFAR10(alone, train=False).labels, rows[:, 0])
    (folder / "test_batch").unlink()
    path = alone / "cifar-10-binary.tar.gz"
    with tarfile.open(path, "w:gz", compresslevel=0) as archive:
        info = tarfile.TarInfo("cifar-10-batches-bin/test_batch.bin")
        info.size = rows.size
        archive.addfile(info, io.BytesIO(rows.tobytes()))
    np.testing.assert_array_equal(CIFAR10(alone, train=False).labels, rows[:, 0])
    with pytest.raises(
        DataError, match="the archive holds no data_batch_1, data_batch"
    ):
        CIFAR10(alone)
    whole = bytearray(path.read_bytes())
    whole[1_000_000] ^= 1
    path.write_bytes(whole)
    with pytest.raises(DataError, match="the archive is damaged: CRC check failed"):
        CIFAR10(alone, train=False)
    path.write_bytes(path.read_bytes()[:5_000_000])
    with pytest.raises(DataError, match="the archive is damaged"):
        CIFAR10(alone, train=False)


def test_truncated_files_and_bad_arguments(alone):
    (alone / "test_batch.bin").write_bytes(records(9_999).tobytes())
    with pytest.raises(DataError, match="expected 10000 images, got 9999"):
        CIFAR10(alone, train=False)
    for batches in ([], [0], [6]):
        with pytest.raises(ShapeError, match="batches: expected numbers from 1 to 5"):
            CIFAR10(alone, batches=batches)


@pytest.fixture(scope="module")
def real(data_root, tmp_path_factory) -> Path:
    """One real file, unpacked as the folder of data tells."""
    packed = data_root / "cifar10" / "test_batch.bin.med.xz"
    script = data_root / "cifar10" / "cifar10_pack.py"
    if not (packed.exists() and script.exists()):
        pytest.skip("needs cifar10/ with its packed files in NNLIB_DATA")
    spec = importlib.util.spec_from_file_location("cifar10_pack", script)
    pack = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(pack)
    images, labels = pack.load(packed)
    folder = tmp_path_factory.mktemp("cifar") / "cifar10"
    folder.mkdir()
    rows = np.concatenate([labels[:, None], images.reshape(len(labels), -1)], 1)
    (folder / "test_batch.bin").write_bytes(rows.tobytes())
    return folder.parent


def test_real_images(real):
    data = CIFAR10(real, train=False)
    np.testing.assert_array_equal(np.bincount(data.labels), [1000] * 10)
    assert [data.classes[k] for k in data.labels[:4]] == [
        "cat",
        "ship",
        "ship",
        "airplane",
    ]
    images, labels = data.to_arrays()
    assert images.dtype == np.float32 and images.shape == (10_000, 3, 32, 32)
    assert abs(images.mean((0, 2, 3))).max() < 0.03
    assert abs(images.std((0, 2, 3)) - 1).max() < 0.02
    plain, _ = data.to_arrays(normalize=False, flatten=True)
    assert plain.shape == (10_000, 3072) and plain.min() == 0 and plain.max() == 1
    assert module._PER_FILE == len(data)
