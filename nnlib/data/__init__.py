"""Data sets, splits, batches: from files to the batches of a training loop.

`Dataset` and `DataLoader` have PyTorch's names and meanings; a data set that can
hand out a whole batch at once (`TensorDataset`, the image sets) is never asked for
single samples.
"""

from nnlib.data.augment import (
    Compose,
    Cutout,
    Normalize,
    RandomAffine,
    RandomCrop,
    RandomHorizontalFlip,
    Transform,
)
from nnlib.data.cifar import CIFAR10, parse_cifar_binary, parse_cifar_pickle
from nnlib.data.corpus import TinyShakespeare, streams
from nnlib.data.dataset import (
    BatchDataset,
    ConcatDataset,
    Dataset,
    IterableDataset,
    Subset,
    TensorDataset,
    random_split,
    train_val_test_split,
)
from nnlib.data.errors import DataError, DownloadError
from nnlib.data.idx import parse_idx, read_idx
from nnlib.data.images import MNIST, Digits, FashionMNIST, ImageDataset
from nnlib.data.joining import (
    ChainDataset,
    StackDataset,
    default_convert,
    get_worker_info,
)
from nnlib.data.loader import DataLoader, default_collate
from nnlib.data.mixup import MixUp
from nnlib.data.samplers import (
    BatchSampler,
    RandomSampler,
    Sampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)
from nnlib.data.scaling import Standardizer, scale_images
from nnlib.data.series import (
    Series,
    airline_passengers,
    melbourne_temperatures,
    read_series,
    sliding_windows,
)
from nnlib.data.sign_language import SignLanguageDigits

__all__ = [
    "CIFAR10",
    "MNIST",
    "BatchDataset",
    "BatchSampler",
    "ChainDataset",
    "Compose",
    "ConcatDataset",
    "Cutout",
    "DataError",
    "DataLoader",
    "Dataset",
    "Digits",
    "DownloadError",
    "FashionMNIST",
    "ImageDataset",
    "IterableDataset",
    "MixUp",
    "Normalize",
    "RandomAffine",
    "RandomCrop",
    "RandomHorizontalFlip",
    "RandomSampler",
    "Sampler",
    "SequentialSampler",
    "SignLanguageDigits",
    "StackDataset",
    "Standardizer",
    "Subset",
    "SubsetRandomSampler",
    "TensorDataset",
    "Transform",
    "WeightedRandomSampler",
    "default_collate",
    "default_convert",
    "get_worker_info",
    "parse_cifar_binary",
    "parse_cifar_pickle",
    "parse_idx",
    "random_split",
    "read_idx",
    "scale_images",
    "train_val_test_split",
    "Series",
    "TinyShakespeare",
    "airline_passengers",
    "melbourne_temperatures",
    "read_series",
    "sliding_windows",
    "streams",
]
