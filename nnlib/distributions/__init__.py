"""Probability distributions: samples, densities, entropies and divergences.

Names, arguments and shapes are PyTorch's (`torch.distributions`); draws take an
optional `generator`.
"""

from nnlib.distributions.continuous import Gumbel, Laplace, Normal, Uniform
from nnlib.distributions.discrete import (
    Bernoulli,
    Categorical,
    Multinomial,
    OneHotCategorical,
)
from nnlib.distributions.distribution import Distribution, Independent
from nnlib.distributions.kl import kl_divergence, register_kl
from nnlib.distributions.relaxed import RelaxedBernoulli, RelaxedOneHotCategorical

__all__ = [
    "Bernoulli",
    "Categorical",
    "Distribution",
    "Gumbel",
    "Independent",
    "Laplace",
    "Multinomial",
    "Normal",
    "OneHotCategorical",
    "RelaxedBernoulli",
    "RelaxedOneHotCategorical",
    "Uniform",
    "kl_divergence",
    "register_kl",
]
