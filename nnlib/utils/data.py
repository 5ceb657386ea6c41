"""Data sets and their loader, where PyTorch has them; see `nnlib.data`."""

from nnlib.data import BatchSampler as BatchSampler
from nnlib.data import ChainDataset as ChainDataset
from nnlib.data import ConcatDataset as ConcatDataset
from nnlib.data import DataLoader as DataLoader
from nnlib.data import Dataset as Dataset
from nnlib.data import IterableDataset as IterableDataset
from nnlib.data import RandomSampler as RandomSampler
from nnlib.data import Sampler as Sampler
from nnlib.data import SequentialSampler as SequentialSampler
from nnlib.data import StackDataset as StackDataset
from nnlib.data import Subset as Subset
from nnlib.data import SubsetRandomSampler as SubsetRandomSampler
from nnlib.data import TensorDataset as TensorDataset
from nnlib.data import WeightedRandomSampler as WeightedRandomSampler
from nnlib.data import default_collate as default_collate
from nnlib.data import default_convert as default_convert
from nnlib.data import get_worker_info as get_worker_info
from nnlib.data import random_split as random_split
