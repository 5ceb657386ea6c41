"""Files: idx, hashes, places, downloads."""

from __future__ import annotations

import gzip
import hashlib
import struct
from pathlib import Path

import numpy as np
import pytest

from nnlib.data import DataError, Digits, DownloadError, parse_idx, read_idx
from nnlib.data import fetch as fetch_module
from nnlib.data.fetch import DataFile, cache_folder, locate
from nnlib.data.images import MNIST, FashionMNIST, ImageDataset


def idx_bytes(array: np.ndarray) -> bytes:
    code = {"u1": 8, "i1": 9, "i2": 11, "i4": 12, "f4": 13, "f8": 14}[
        array.dtype.str[1:]
    ]
    header = bytes([0, 0, code, array.ndim]) + struct.pack(
        f">{array.ndim}I", *array.shape
    )
    return header + np.asarray(array, array.dtype.newbyteorder(">")).tobytes()


@pytest.mark.parametrize("dtype", ["u1", "i1", "i2", "i4", "f4", "f8"])
@pytest.mark.parametrize("shape", [(), (3,), (2, 3, 4), (0, 5)])
@pytest.mark.parametrize("packed", [False, True])
def test_idx_round_trip(tmp_path, dtype, shape, packed):
    values = np.asarray(np.arange(np.prod(shape)).reshape(shape) - 3, dtype)
    content = idx_bytes(values)
    path = tmp_path / "a-file"
    path.write_bytes(gzip.compress(content) if packed else content)
    got = read_idx(path)
    assert got.dtype == np.dtype(dtype) and got.dtype.isnative
    np.testing.assert_array_equal(got, values)
    assert got.flags.writeable


GOOD = idx_bytes(np.arange(12, dtype=np.uint8).reshape(3, 4))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"not an idx file.*an empty file"),
        (b"\x00", r"not an idx file"),
        (b"GIF89a..", r"expected it to begin with two zero bytes, got 47 49 46 38"),
        (b"\x00\x00\x07\x01", r"type code 0x07, expected one of 0x08"),
        (GOOD[:10], r"truncated: the header takes 12 bytes, the file has 10"),
        (GOOD[:-1], r"truncated: shape \(3, 4\) of uint8 takes 12 bytes.* has 11"),
        (GOOD + b"x", r"too long: shape \(3, 4\) of uint8 takes 12 bytes.* has 13"),
        (b"\x00\x00\x0e\x02" + b"\xff" * 8, r"truncated: shape \(4294967295"),
    ],
)
def test_bad_idx(content, message):
    with pytest.raises(DataError, match=message):
        parse_idx(content)
    with pytest.raises(ValueError, match="labels-file"):
        parse_idx(content, name="labels-file")


def test_truncated_and_corrupt_gzip(tmp_path):
    packed = gzip.compress(np.random.default_rng(0).bytes(5000))
    path = tmp_path / "x.gz"
    path.write_bytes(packed[: len(packed) // 2])
    with pytest.raises(DataError, match=r"x.gz: the gzip stream ends early"):
        read_idx(path)
    broken = bytearray(packed)
    broken[2500] ^= 0xFF
    path.write_bytes(bytes(broken))
    with pytest.raises(DataError, match=r"x.gz: the gzip stream is corrupt"):
        read_idx(path)
    with pytest.raises(FileNotFoundError):
        read_idx(tmp_path / "absent")


def known(content: bytes, folder: str = "set", mirrors: tuple[str, ...] = ()):
    packed = gzip.compress(content, mtime=0)
    return packed, DataFile(
        folder,
        "f.gz",
        hashlib.sha256(packed).hexdigest(),
        mirrors,
        hashlib.sha256(content).hexdigest(),
    )


@pytest.fixture
def quiet(monkeypatch, tmp_path):
    """No data folder, and an empty cache."""
    monkeypatch.delenv("NNLIB_DATA", raising=False)
    monkeypatch.setenv("NNLIB_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path


def test_places_in_order(quiet, monkeypatch):
    packed, file = known(b"hello")
    spots = [
        quiet / "cache" / "data" / "set",
        quiet / "named",
        quiet / "named" / "set",
        quiet / "root",
        quiet / "root" / "set",
    ]
    monkeypatch.setenv("NNLIB_DATA", str(quiet / "named"))
    assert cache_folder() == quiet / "cache" / "data"
    file = DataFile("set", "f.gz", file.sha256, ("https://nowhere.invalid/",))
    for spot in spots:
        spot.mkdir(parents=True, exist_ok=True)
        (spot / "f.gz").write_bytes(packed)
        assert locate(file, root=quiet / "root").parent == spot


def test_decompressed_file_is_taken(quiet):
    _, file = known(b"hello")
    (quiet / "f").write_bytes(b"hello")
    assert locate(file, root=quiet) == quiet / "f"


@pytest.mark.parametrize("name", ["f.gz", "f"])
def test_hash_mismatch(quiet, name):
    _, file = known(b"hello")
    (quiet / name).write_bytes(b"other")
    with pytest.raises(DataError, match=r"hash mismatch.*expected sha256 .*, got "):
        locate(file, root=quiet)


def test_download_is_checked_cached_and_tries_each_mirror(quiet):
    packed, file = known(b"hello")
    server = quiet / "server"
    server.mkdir()
    (server / "f.gz").write_bytes(b"not it")
    good = quiet / "good"
    good.mkdir()
    (good / "f.gz").write_bytes(packed)

    calls = []

    def serve(url, known_hash, fname, path, progressbar):
        # stands in for the network: pooch's own behaviour on a wrong hash
        calls.append(url)
        content = Path(url.removeprefix("file://")).read_bytes()
        if f"sha256:{hashlib.sha256(content).hexdigest()}" != known_hash:
            raise ValueError("SHA256 hash of downloaded file does not match")
        Path(path).mkdir(parents=True)
        (Path(path) / fname).write_bytes(content)
        return str(Path(path) / fname)

    import pooch

    mirrors = (f"file://{quiet}/absent/", f"file://{server}/", f"file://{good}/")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pooch, "retrieve", serve)
        with pytest.raises(DownloadError, match=r"set/f.gz: not found.*absent.*server"):
            locate(DataFile("set", "f.gz", file.sha256, mirrors[:2]))
        path = locate(DataFile("set", "f.gz", file.sha256, mirrors))
    assert path == quiet / "cache" / "data" / "set" / "f.gz"
    assert len(calls) == 5
    # the second time pooch finds it in the cache, and the mirrors are not asked
    assert locate(DataFile("set", "f.gz", file.sha256, ("https://x.invalid/",))) == path


def test_absent_and_unreachable(quiet):
    _, file = known(b"hello")
    with pytest.raises(DownloadError, match=r"no mirror is known.*set NNLIB_DATA"):
        locate(file)
    assert issubclass(DownloadError, OSError)


def test_download_of_a_named_root_goes_there(quiet, monkeypatch):
    seen = {}

    def fake(file, folder):
        seen["folder"] = folder
        return folder / file.name

    monkeypatch.setattr(fetch_module, "_download", fake)
    _, file = known(b"x")
    locate(file, root=quiet / "mine")
    assert seen["folder"] == quiet / "mine" / "set"


def test_digits():
    data = Digits()
    assert data.images.shape == (1797, 8, 8) and data.images.dtype == np.uint8
    assert data.images.max() == 16 and data.labels.dtype == np.int64
    np.testing.assert_array_equal(
        np.bincount(data.labels), [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    )
    images, labels = data.to_arrays()
    assert images.shape == (1797, 1, 8, 8) and images.dtype == np.float32
    assert abs(images.mean()) < 1e-3 and abs(images.std() - 1) < 1e-3
    flat, _ = data.to_arrays(flatten=True, normalize=False)
    assert flat.shape == (1797, 64) and flat.min() == 0 and flat.max() == 1
    image, label = data[3]
    assert image.shape == (8, 8) and label == 3 and len(data) == 1797


@pytest.mark.parametrize("kind", [MNIST, FashionMNIST])
@pytest.mark.parametrize("train", [False, True])
def test_published_sets(kind, train, data_root):
    data = kind(train=train)
    count = 60000 if train else 10000
    assert data.images.shape == (count, 28, 28) and len(data) == count
    np.testing.assert_array_equal(np.unique(data.labels), np.arange(10))
    assert len(data.classes) == 10
    if train:
        images, _ = data.to_arrays()
        assert abs(images.mean(dtype=np.float64)) < 1e-3
        assert abs(images.std(dtype=np.float64) - 1) < 1e-3
    first = {
        (MNIST, True): 5,
        (MNIST, False): 7,
        (FashionMNIST, True): 9,
        (FashionMNIST, False): 9,
    }
    assert data.labels[0] == first[kind, train]


def test_a_damaged_mnist_is_refused(quiet):
    (quiet / "mnist").mkdir()
    path = quiet / "mnist" / "t10k-images-idx3-ubyte.gz"
    path.write_bytes(gzip.compress(GOOD))
    with pytest.raises(DataError, match=r"t10k-images-idx3-ubyte.gz: hash mismatch"):
        MNIST(root=quiet, train=False)


def test_image_dataset_refuses_what_does_not_fit():
    images = np.zeros((3, 4, 4), np.uint8)
    with pytest.raises(TypeError, match="expected uint8 images and integer labels"):
        ImageDataset(images.astype(float), np.zeros(3, int))
    with pytest.raises(ValueError, match=r"got \(3, 4, 4\) and \(2,\)"):
        ImageDataset(images, np.zeros(2, int))
