"""Convolutional generator and discriminator (DCGAN).

A. Radford, L. Metz, S. Chintala: Unsupervised representation learning with deep
convolutional generative adversarial networks, 2016. They are trained by
`nnlib.train.fit_gan`.
"""

from __future__ import annotations

from nnlib import nn
from nnlib.backend.errors import ShapeError
from nnlib.nn import init

__all__ = ["DCGANDiscriminator", "DCGANGenerator"]


def _check(name: str, size: int) -> int:
    if size < 4 or size % 4:
        raise ShapeError(f"{name}: size: expected a multiple of 4, got {size}")
    return size // 4


def _start(model: nn.Module) -> None:
    """Draw weights as the paper does: N(0, 0.02), batch norm's scale around one."""
    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
            init.normal_(module.weight, 0.0, 0.02)
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            init.normal_(module.weight, 1.0, 0.02)


class DCGANGenerator(nn.Sequential):
    """From noise to images with values from -1 to 1.

    ``latents -> 2w x s/4 x s/4 -> w x s/2 x s/2 -> channels x s x s``, batch norm and
    ReLU between, tanh at the end.

    Parameters
    ----------
    latents : int, default 64
    channels : int, default 1
    size : int, default 28
        Height and width of the images, a multiple of 4.
    width : int, default 32
        The number of maps before the last layer.

    Examples
    --------
    >>> import nnlib
    >>> tuple(DCGANGenerator()(nnlib.randn(5, 64)).shape)
    (5, 1, 28, 28)
    """

    def __init__(
        self, latents: int = 64, channels: int = 1, size: int = 28, width: int = 32
    ) -> None:
        inner = _check("DCGANGenerator", size)
        features = 2 * width * inner * inner
        super().__init__(
            nn.Linear(latents, features, bias=False),
            nn.Unflatten(1, (2 * width, inner, inner)),
            nn.BatchNorm2d(2 * width),
            nn.ReLU(),
            nn.ConvTranspose2d(2 * width, width, 4, 2, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.ConvTranspose2d(width, channels, 4, 2, 1),
            nn.Tanh(),
        )
        self.latents = latents
        _start(self)


class DCGANDiscriminator(nn.Sequential):
    """From images to one number each: the logit of being real.

    Two strided convolutions and a linear layer, leaky ReLU between.

    Parameters
    ----------
    channels : int, default 1
    size : int, default 28
        A multiple of 4.
    width : int, default 32
        The number of maps after the first layer.
    batch_norm : bool, default True
        After the second convolution. A critic with a gradient penalty must not have
        it: the penalty is of each sample by itself (I. Gulrajani et al., 2017).

    Examples
    --------
    >>> import nnlib
    >>> tuple(DCGANDiscriminator()(nnlib.zeros(5, 1, 28, 28)).shape)
    (5, 1)
    """

    def __init__(
        self,
        channels: int = 1,
        size: int = 28,
        width: int = 32,
        *,
        batch_norm: bool = True,
    ) -> None:
        inner = _check("DCGANDiscriminator", size)
        norm = [nn.BatchNorm2d(2 * width)] if batch_norm else []
        super().__init__(
            nn.Conv2d(channels, width, 4, 2, 1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(width, 2 * width, 4, 2, 1, bias=not batch_norm),
            *norm,
            nn.LeakyReLU(0.2),
            nn.Flatten(),
            nn.Linear(2 * width * inner * inner, 1),
        )
        _start(self)
