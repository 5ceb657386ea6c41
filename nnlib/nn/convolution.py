"""Convolutional layers, transposed ones, and the layers that unfold and fold."""

from __future__ import annotations

import math
from typing import Any, ClassVar

from nnlib.autograd.tensor import Tensor
from nnlib.backend.errors import ArgumentError, ShapeError
from nnlib.nn import functional as F
from nnlib.nn import init
from nnlib.nn.linear import check_size, new_parameter
from nnlib.nn.module import Module
from nnlib.ops.convolution_arguments import per_dim, read_output_size

__all__ = [
    "Conv1d",
    "Conv2d",
    "Conv3d",
    "ConvTranspose1d",
    "ConvTranspose2d",
    "ConvTranspose3d",
    "Fold",
    "Unfold",
]

_PADDING_MODES = ("zeros", "reflect", "replicate", "circular")


class _Convolution(Module):
    """What the convolutional layers share: arguments, parameters, initial values."""

    rank: ClassVar[int]
    transposed: ClassVar[bool] = False

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        layer, rank = type(self).__name__, self.rank
        check_size(layer, "in_channels", in_channels, 1)
        check_size(layer, "out_channels", out_channels, 1)
        check_size(layer, "groups", groups, 1)
        for name, channels in (
            ("in_channels", in_channels),
            ("out_channels", out_channels),
        ):
            if channels % groups:
                raise ShapeError(
                    f"{layer}: {name}: {channels} is not divisible by groups={groups}"
                )
        modes = _PADDING_MODES[:1] if self.transposed else _PADDING_MODES
        if padding_mode not in modes:
            raise ArgumentError(
                f"{layer}: padding_mode: expected {' or '.join(map(repr, modes))}, got "
                f"{padding_mode!r}"
            )
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = per_dim(layer, "kernel_size", kernel_size, rank, 1)
        self.stride = per_dim(layer, "stride", stride, rank, 1)
        self.dilation = per_dim(layer, "dilation", dilation, rank, 1)
        self.groups = groups
        self.padding_mode = padding_mode
        self.padding = self._read_padding(layer, padding)
        shape = (out_channels, in_channels // groups)
        if self.transposed:
            shape = (in_channels, out_channels // groups)
        made = {"device": device, "dtype": dtype}
        self.weight = new_parameter(*shape, *self.kernel_size, **made)
        self.bias = new_parameter(out_channels, **made) if bias else None
        self.reset_parameters()

    def _read_padding(self, layer: str, padding: Any) -> Any:
        """Return ints, or "same" or "valid"; note the widths of other modes."""
        spans = [
            d * (k - 1) for d, k in zip(self.dilation, self.kernel_size, strict=True)
        ]
        if isinstance(padding, str) and not self.transposed:
            if padding not in ("same", "valid"):
                raise ArgumentError(
                    f'{layer}: padding: expected ints, "same" or "valid", got '
                    f"{padding!r}"
                )
            if padding == "same" and max(self.stride) > 1:
                raise ShapeError(
                    f'{layer}: padding "same" needs stride 1, got {self.stride}'
                )
            pairs = [
                (span // 2, span - span // 2) if padding == "same" else (0, 0)
                for span in spans
            ]
        else:
            padding = per_dim(layer, "padding", padding, self.rank, 0)
            pairs = [(width, width) for width in padding]
        # As `pad` takes them: the last dimension first.
        self._widths = tuple(width for pair in reversed(pairs) for width in pair)
        return padding

    def reset_parameters(self) -> None:
        """Draw new initial values."""
        # He's uniform rule with slope sqrt(5) is U(-r, r) with r = 1/sqrt(fan_in).
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            bound = 1 / math.sqrt(math.prod(self.weight.shape[1:]))
            init.uniform_(self.bias, -bound, bound)

    def _prepare(self, input: Tensor) -> tuple[Tensor, Any]:
        """Return the input, padded if not by zeros, and the padding left to do."""
        if self.padding_mode == "zeros":
            return input, self.padding
        return F.pad(input, self._widths, mode=self.padding_mode), 0

    def extra_repr(self) -> str:
        """Return the sizes, and what is not the default."""
        parts = [
            f"{self.in_channels}, {self.out_channels}",
            f"kernel_size={self.kernel_size}",
            f"stride={self.stride}",
        ]
        if self.padding != (0,) * self.rank:
            parts.append(f"padding={self.padding}")
        if max(self.dilation) > 1:
            parts.append(f"dilation={self.dilation}")
        more = getattr(self, "output_padding", (0,))
        if any(more):
            parts.append(f"output_padding={more}")
        if self.groups > 1:
            parts.append(f"groups={self.groups}")
        if self.bias is None:
            parts.append("bias=False")
        if self.padding_mode != "zeros":
            parts.append(f"padding_mode={self.padding_mode}")
        return ", ".join(parts)


class Conv1d(_Convolution):
    """A convolution along one dimension; see `Conv2d`.

    Examples
    --------
    >>> import nnlib
    >>> tuple(Conv1d(4, 6, 3)(nnlib.zeros(2, 4, 10)).shape)
    (2, 6, 8)
    """

    rank = 1

    def forward(self, input: Tensor) -> Tensor:
        """Return the convolution of (N, C, L), shape (N, K, L')."""
        x, padding = self._prepare(input)
        return F.conv1d(
            x, self.weight, self.bias, self.stride, padding, self.dilation, self.groups
        )


class Conv2d(_Convolution):
    """A convolution of images with learnt filters; see `nnlib.conv2d`.

    Parameters
    ----------
    in_channels, out_channels : int
    kernel_size : int or pair of int
    stride, dilation : int or pair of int, default 1
    padding : int, pair of int, "same" or "valid", default 0
    groups : int, default 1
    bias : bool, default True
        Whether to learn one.
    padding_mode : {"zeros", "reflect", "replicate", "circular"}
        What stands outside of the image.
    device, dtype : optional
        Of the parameters.

    Attributes
    ----------
    weight : Parameter, shape (out_channels, in_channels / groups, kh, kw)
        Initially U(-r, r) with ``r = 1 / sqrt(in_channels / groups * kh * kw)``.
    bias : Parameter, shape (out_channels,), or None
        Initially from the same distribution.

    Examples
    --------
    >>> import nnlib
    >>> layer = Conv2d(3, 8, 3, padding="same")
    >>> tuple(layer(nnlib.zeros(2, 3, 16, 16)).shape)
    (2, 8, 16, 16)
    """

    rank = 2

    def forward(self, input: Tensor) -> Tensor:
        """Return the convolution of (N, C, H, W), shape (N, K, H', W')."""
        x, padding = self._prepare(input)
        return F.conv2d(
            x, self.weight, self.bias, self.stride, padding, self.dilation,
            self.groups,
        )  # fmt: skip


class Conv3d(_Convolution):
    """A convolution of volumes; see `Conv2d`.

    Examples
    --------
    >>> import nnlib
    >>> tuple(Conv3d(1, 2, 3)(nnlib.zeros(1, 1, 4, 5, 6)).shape)
    (1, 2, 2, 3, 4)
    """

    rank = 3

    def forward(self, input: Tensor) -> Tensor:
        """Return the convolution of (N, C, D, H, W), shape (N, K, D', H', W')."""
        x, padding = self._prepare(input)
        return F.conv3d(
            x, self.weight, self.bias, self.stride, padding, self.dilation, self.groups
        )


class _Transposed(_Convolution):
    """What the transposed layers share."""

    transposed = True

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        output_padding: Any = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Any = 1,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding, dilation, groups,
            bias, padding_mode, device, dtype,
        )  # fmt: skip
        self.output_padding = per_dim(
            type(self).__name__, "output_padding", output_padding, self.rank, 0
        )

    def _more(self, input: Tensor, output_size: Any) -> Any:
        """Return the output padding that gives the result the size asked for."""
        if output_size is None:
            return self.output_padding
        layer, rank = type(self).__name__, self.rank
        wanted = read_output_size(layer, output_size, rank, input.ndim)
        least = tuple(
            (length - 1) * s - 2 * p + d * (k - 1) + 1
            for length, s, p, d, k in zip(
                input.shape[-rank:], self.stride, self.padding, self.dilation,
                self.kernel_size, strict=True,
            )
        )  # fmt: skip
        more = tuple(w - low for w, low in zip(wanted, least, strict=True))
        if any(not 0 <= m < s for m, s in zip(more, self.stride, strict=True)):
            raise ShapeError(
                f"{layer}: output_size: expected {least} and less than the stride "
                f"{self.stride} more, got {wanted}"
            )
        return more


class ConvTranspose1d(_Transposed):
    """The transpose of `Conv1d`; see `ConvTranspose2d`.

    Examples
    --------
    >>> import nnlib
    >>> tuple(ConvTranspose1d(4, 6, 3)(nnlib.zeros(2, 4, 10)).shape)
    (2, 6, 12)
    """

    rank = 1

    def forward(self, input: Tensor, output_size: Any = None) -> Tensor:
        """Return the transposed convolution of (N, C, L), shape (N, K, L')."""
        return F.conv_transpose1d(
            input, self.weight, self.bias, self.stride, self.padding,
            self._more(input, output_size), self.groups, self.dilation,
        )  # fmt: skip


class ConvTranspose2d(_Transposed):
    """The transpose of `Conv2d`, which enlarges; see `nnlib.conv_transpose2d`.

    Parameters
    ----------
    in_channels, out_channels : int
    kernel_size : int or pair of int
    stride, dilation : int or pair of int, default 1
    padding : int or pair of int, default 0
        Rows and columns cut off each side of the result.
    output_padding : int or pair of int, default 0
        Rows and columns more at its end.
    groups : int, default 1
    bias : bool, default True
        Whether to learn one.
    padding_mode : {"zeros"}
    device, dtype : optional
        Of the parameters.

    Attributes
    ----------
    weight : Parameter, shape (in_channels, out_channels / groups, kh, kw)
        Initially U(-r, r) with ``r = 1 / sqrt(out_channels / groups * kh * kw)``.
    bias : Parameter, shape (out_channels,), or None

    Examples
    --------
    >>> import nnlib
    >>> up = ConvTranspose2d(8, 3, 4, stride=2, padding=1)
    >>> tuple(up(nnlib.zeros(2, 8, 7, 7)).shape)
    (2, 3, 14, 14)
    """

    rank = 2

    def forward(self, input: Tensor, output_size: Any = None) -> Tensor:
        """Return the transposed convolution of (N, C, H, W), shape (N, K, H', W').

        `output_size`, height and width, picks one of the sizes that the stride leaves
        open.
        """
        return F.conv_transpose2d(
            input, self.weight, self.bias, self.stride, self.padding,
            self._more(input, output_size), self.groups, self.dilation,
        )  # fmt: skip


class ConvTranspose3d(_Transposed):
    """The transpose of `Conv3d`; see `ConvTranspose2d`.

    Examples
    --------
    >>> import nnlib
    >>> tuple(ConvTranspose3d(1, 2, 2, stride=2)(nnlib.zeros(1, 1, 2, 3, 4)).shape)
    (1, 2, 4, 6, 8)
    """

    rank = 3

    def forward(self, input: Tensor, output_size: Any = None) -> Tensor:
        """Return the transposed convolution of (N, C, D, H, W)."""
        return F.conv_transpose3d(
            input, self.weight, self.bias, self.stride, self.padding,
            self._more(input, output_size), self.groups, self.dilation,
        )  # fmt: skip


class Unfold(Module):
    """Windows of images as columns; see `nnlib.nn.functional.unfold`.

    Examples
    --------
    >>> import nnlib
    >>> tuple(Unfold(3, padding=1)(nnlib.zeros(2, 4, 5, 6)).shape)
    (2, 36, 30)
    """

    def __init__(
        self, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1
    ) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.dilation = dilation
        self.padding = padding
        self.stride = stride

    def forward(self, input: Tensor) -> Tensor:
        """Return the columns of (N, C, H, W), shape (N, C * kh * kw, L)."""
        return F.unfold(
            input, self.kernel_size, self.dilation, self.padding, self.stride
        )

    def extra_repr(self) -> str:
        """Return the windows' arguments."""
        return (
            f"kernel_size={self.kernel_size}, dilation={self.dilation}, "
            f"padding={self.padding}, stride={self.stride}"
        )


class Fold(Module):
    """Columns added up into images; see `nnlib.nn.functional.fold`.

    Examples
    --------
    >>> import nnlib
    >>> tuple(Fold((5, 6), 3, padding=1)(nnlib.zeros(2, 36, 30)).shape)
    (2, 4, 5, 6)
    """

    def __init__(
        self,
        output_size: Any,
        kernel_size: Any,
        dilation: Any = 1,
        padding: Any = 0,
        stride: Any = 1,
    ) -> None:
        super().__init__()
        self.output_size = output_size
        self.kernel_size = kernel_size
        self.dilation = dilation
        self.padding = padding
        self.stride = stride

    def forward(self, input: Tensor) -> Tensor:
        """Return the images of (N, C * kh * kw, L), shape (N, C, H, W)."""
        return F.fold(
            input,
            self.output_size,
            self.kernel_size,
            self.dilation,
            self.padding,
            self.stride,
        )

    def extra_repr(self) -> str:
        """Return the windows' arguments."""
        return (
            f"output_size={self.output_size}, kernel_size={self.kernel_size}, "
            f"dilation={self.dilation}, padding={self.padding}, stride={self.stride}"
        )
