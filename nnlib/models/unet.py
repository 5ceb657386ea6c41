"""U-Net: down, up again, and across."""

from __future__ import annotations

from nnlib import nn
from nnlib.autograd.tensor import Tensor
from nnlib.backend.errors import ShapeError
from nnlib.models.initial import kaiming
from nnlib.nn.linear import check_size
from nnlib.ops import cat

__all__ = ["UNet"]


class DoubleConv(nn.Sequential):
    """Two 3x3 convolutions with ReLU, and batch normalisation if asked for."""

    def __init__(self, n_in: int, n_out: int, batch_norm: bool) -> None:
        layers: list[nn.Module] = []
        for channels in (n_in, n_out):
            layers.append(nn.Conv2d(channels, n_out, 3, padding=1, bias=not batch_norm))
            if batch_norm:
                layers.append(nn.BatchNorm2d(n_out))
            layers.append(nn.ReLU())
        super().__init__(*layers)


class UNet(nn.Module):
    """Images to images of the same size, with what is fine and what is wide.

    O. Ronneberger, P. Fischer, T. Brox: U-Net, MICCAI 2015, with padded convolutions,
    so that the maps which go across need not be cropped. Each level down halves height
    and width and doubles the channels.

    Parameters
    ----------
    in_channels : int, default 1
    out_channels : int, default 2
        Scores per pixel.
    width : int, default 64
        Channels of the first level.
    depth : int, default 4
        Levels down.
    batch_norm : bool, default False

    Raises
    ------
    ShapeError
        If `depth` is below 1; on call, if height or width is not divisible by
        ``2 ** depth``.

    Examples
    --------
    >>> import nnlib
    >>> tuple(UNet(3, 5, width=4, depth=2)(nnlib.zeros(2, 3, 16, 24)).shape)
    (2, 5, 16, 24)
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 2,
        *,
        width: int = 64,
        depth: int = 4,
        batch_norm: bool = False,
    ) -> None:
        super().__init__()
        check_size("UNet", "depth", depth, 1)
        check_size("UNet", "width", width, 1)
        widths = [width << level for level in range(depth + 1)]
        self.depth = depth
        self.pool = nn.MaxPool2d(2)
        self.down = nn.ModuleList(
            [
                DoubleConv(n_in, n_out, batch_norm)
                for n_in, n_out in zip([in_channels, *widths[:-1]], widths, strict=True)
            ]
        )
        pairs = list(zip(widths[:0:-1], widths[-2::-1], strict=True))
        self.up = nn.ModuleList(
            [nn.ConvTranspose2d(n_in, n_out, 2, stride=2) for n_in, n_out in pairs]
        )
        self.merge = nn.ModuleList(
            [DoubleConv(n_in, n_out, batch_norm) for n_in, n_out in pairs]
        )
        self.head = nn.Conv2d(width, out_channels, 1)
        kaiming(self)

    def forward(self, x: Tensor) -> Tensor:
        """Return the scores of ([N,] C, H, W), shape ([N,] out_channels, H, W)."""
        if any(size % (1 << self.depth) for size in x.shape[-2:]):
            raise ShapeError(
                f"UNet: x: expected height and width divisible by {1 << self.depth}, "
                f"got {tuple(x.shape)}"
            )
        across = []
        for level, block in enumerate(self.down):
            x = block(x if level == 0 else self.pool(x))
            across.append(x)
        across.pop()
        for enlarge, block in zip(self.up, self.merge, strict=True):
            x = block(cat([across.pop(), enlarge(x)], -3))
        scores: Tensor = self.head(x)
        return scores
