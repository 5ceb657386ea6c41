"""Image sets of the field: MNIST, Fashion-MNIST and the 8x8 UCI digits.

MNIST: Y. LeCun, C. Cortes, C. J. C. Burges, "The MNIST database of handwritten
digits", 1998. Fashion-MNIST: H. Xiao, K. Rasul, R. Vollgraf, arXiv:1708.07747, 2017
(MIT licence). Digits: E. Alpaydin, C. Kaynak, UCI repository, 1998 (CC BY 4.0; see
``nnlib/data/files/ATTRIBUTION.md``).
"""

from __future__ import annotations

import os
from importlib import resources
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from nnlib.autograd.construct import as_tensor
from nnlib.autograd.tensor import Tensor
from nnlib.backend.device import Device
from nnlib.backend.errors import DTypeError, ShapeError
from nnlib.data.dataset import BatchDataset, TensorDataset
from nnlib.data.errors import DataError
from nnlib.data.fetch import DataFile, locate
from nnlib.data.idx import read_bytes, read_idx
from nnlib.data.scaling import scale_images

__all__ = ["MNIST", "Digits", "FashionMNIST", "ImageDataset"]


class ImageDataset(BatchDataset[tuple[NDArray[np.uint8], np.int64]]):
    """Images and their classes, held in memory as bytes.

    Parameters
    ----------
    images : numpy.ndarray
        uint8, shape ``(N, H, W)`` or ``(N, C, H, W)``.
    labels : numpy.ndarray
        int64, shape ``(N,)``, from 0 to the number of classes less 1.

    Attributes
    ----------
    classes : tuple of str
        The name of each class.
    peak : int
        The value of a fully lit pixel.
    mean, std : float or tuple of float
        Of the training set's pixels, after division by `peak`; one for each channel,
        or one for all.
    """

    classes: ClassVar[tuple[str, ...]] = ()
    peak: ClassVar[int] = 255
    mean: ClassVar[float | tuple[float, ...]] = 0.0
    std: ClassVar[float | tuple[float, ...]] = 1.0

    def __init__(self, images: NDArray[np.uint8], labels: NDArray[np.int64]) -> None:
        name = type(self).__name__
        if images.dtype != np.uint8 or labels.dtype.kind not in "iu":
            raise DTypeError(
                f"{name}: expected uint8 images and integer labels, got "
                f"{images.dtype} and {labels.dtype}"
            )
        if images.ndim not in (3, 4) or labels.shape != images.shape[:1]:
            raise ShapeError(
                f"{name}: expected images (N, H, W) or (N, C, H, W) and labels (N,), "
                f"got {images.shape} and {labels.shape}"
            )
        self.images = images
        self.labels = labels.astype(np.int64, copy=False)

    def __repr__(self) -> str:
        """Return the name, and how many images of which size there are."""
        return f"{type(self).__name__}({len(self)} images of {self.images.shape[1:]})"

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[NDArray[np.uint8], np.int64]:
        """Return one image, as bytes, and its class."""
        return self.images[index], self.labels[index]

    def get_batch(self, indices: NDArray[np.int64]) -> tuple[Tensor, ...]:
        """Return the images, as bytes, and the classes of numbers `indices`."""
        return as_tensor(self.images.take(indices, 0)), as_tensor(
            self.labels.take(indices)
        )

    def to_arrays(
        self, *, flatten: bool = False, normalize: bool = True
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return the images as float32 and the labels as int64 arrays.

        Parameters
        ----------
        flatten : bool, default False
            Give ``(N, C*H*W)`` instead of ``(N, C, H, W)``.
        normalize : bool, default True
            Subtract the training set's mean and divide by its standard deviation;
            otherwise the pixels run from 0 to 1.

        Returns
        -------
        images : numpy.ndarray
            float32, ``(N, C, H, W)``, or ``(N, C*H*W)`` if `flatten`.
        labels : numpy.ndarray
            int64, ``(N,)``.
        """
        scaled = self._scaled() if normalize else self._scaled(0.0, 1.0)
        if flatten:
            return scaled.reshape(len(self), -1), self.labels  # (N, ...) -> (N, C*H*W)
        if scaled.ndim == 3:
            scaled = scaled[:, None]  # (N, H, W) -> (N, 1, H, W)
        return scaled, self.labels

    def _scaled(self, mean: Any = None, std: Any = None) -> NDArray[np.float32]:
        mean = self.mean if mean is None else mean
        std = self.std if std is None else std
        if not isinstance(mean, tuple):
            return scale_images(self.images, peak=self.peak, mean=mean, std=std)
        scaled = scale_images(self.images, peak=self.peak)
        column = (-1, 1, 1)  # (C,) -> (C, 1, 1)
        scaled -= np.asarray(mean, np.float32).reshape(column)
        scaled /= np.asarray(std, np.float32).reshape(column)
        return scaled

    def to_tensors(
        self,
        *,
        flatten: bool = False,
        normalize: bool = True,
        device: str | Device | None = None,
    ) -> TensorDataset:
        """Return the whole set as a `TensorDataset` of float32 images and labels.

        On a CUDA device the set lies in its memory, and batches are cut there.
        See `to_arrays` for the arguments.
        """
        images, labels = self.to_arrays(flatten=flatten, normalize=normalize)
        data = TensorDataset(as_tensor(images), as_tensor(labels))
        return data if device is None else data.to(device)


class MNIST(ImageDataset):
    """The MNIST digits: 60,000 training and 10,000 test images of 28x28.

    Parameters
    ----------
    root : str or os.PathLike, optional
        A folder that holds ``mnist/`` with the four idx files, compressed or not.
        Without it ``NNLIB_DATA`` is looked at, then the cache; the last resort is a
        download.
    train : bool, default True
        The training set, or the test set.
    download : bool, default True
        Whether a file that is not here may be downloaded (PyTorch's default is False).

    Raises
    ------
    DataError
        If a file is damaged or not the published one.
    DownloadError
        If a file is neither here nor to be had.
    """

    folder: ClassVar[str] = "mnist"
    mirrors: ClassVar[tuple[str, ...]] = (
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    )
    # (file's stem, sha256 of the .gz as published, sha256 of its content)
    train_files: ClassVar[tuple[tuple[str, str, str], ...]] = (
        (
            "train-images-idx3-ubyte",
            "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        ),
        (
            "train-labels-idx1-ubyte",
            "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
            "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        ),
    )
    test_files: ClassVar[tuple[tuple[str, str, str], ...]] = (
        (
            "t10k-images-idx3-ubyte",
            "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
            "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        ),
        (
            "t10k-labels-idx1-ubyte",
            "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
            "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        ),
    )
    classes = tuple("0123456789")
    mean = 0.1307
    std = 0.3081

    def __init__(
        self,
        root: str | os.PathLike[str] | None = None,
        train: bool = True,
        *,
        download: bool = True,
    ) -> None:
        self.train = train
        mirrors = self.mirrors if download else ()
        paths = [
            locate(DataFile(self.folder, f"{stem}.gz", published, mirrors, raw), root)
            for stem, published, raw in (self.train_files if train else self.test_files)
        ]
        super().__init__(read_idx(paths[0]), read_idx(paths[1]).astype(np.int64))


class FashionMNIST(MNIST):
    """Fashion-MNIST: 60,000 training and 10,000 test images of garments, 28x28.

    The arguments and errors are those of `MNIST`; the folder is ``fashion-mnist/``.
    """

    folder = "fashion-mnist"
    mirrors = (
        "https://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    )
    train_files = (
        (
            "train-images-idx3-ubyte",
            "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
            "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        ),
        (
            "train-labels-idx1-ubyte",
            "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
            "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        ),
    )
    test_files = (
        (
            "t10k-images-idx3-ubyte",
            "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
            "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        ),
        (
            "t10k-labels-idx1-ubyte",
            "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
            "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        ),
    )
    classes = (
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    )
    mean = 0.2860
    std = 0.3530


class Digits(ImageDataset):
    """The 1,797 handwritten digits of 8x8 pixels that come with nnlib.

    The test set of UCI's Optical Recognition of Handwritten Digits: pixels from 0 to
    16, no split of its own (see `train_val_test_split`).

    Examples
    --------
    >>> data = Digits()
    >>> data.images.shape, data.images.dtype, data.labels[:5]
    ((1797, 8, 8), dtype('uint8'), array([0, 1, 2, 3, 4]))
    """

    classes = tuple("0123456789")
    peak = 16
    mean = 0.3053
    std = 0.3760

    def __init__(self) -> None:
        source = resources.files("nnlib.data") / "files" / "digits.csv.gz"
        with resources.as_file(source) as path:
            text = read_bytes(path).decode("ascii")
        rows = np.array([line.split(",") for line in text.split()], dtype=np.uint8)
        if rows.shape != (1797, 65):
            raise DataError(
                f"{source}: expected 1797 lines of 65 numbers: {rows.shape}"
            )
        images = np.ascontiguousarray(rows[:, :64]).reshape(-1, 8, 8)  # (N, 64) -> NHW
        super().__init__(images, rows[:, 64].astype(np.int64))
