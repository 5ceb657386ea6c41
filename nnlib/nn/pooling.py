"""Pooling layers: maxima, means and norms of windows."""

from __future__ import annotations

from typing import Any

from nnlib.autograd.tensor import Tensor
from nnlib.backend.errors import ArgumentError
from nnlib.nn import functional as F
from nnlib.nn.module import Module

__all__ = [
    "AdaptiveAvgPool1d",
    "AdaptiveAvgPool2d",
    "AdaptiveAvgPool3d",
    "AdaptiveMaxPool1d",
    "AdaptiveMaxPool2d",
    "AdaptiveMaxPool3d",
    "AvgPool1d",
    "AvgPool2d",
    "AvgPool3d",
    "FractionalMaxPool2d",
    "FractionalMaxPool3d",
    "GaussianAvgPool2d",
    "LPPool1d",
    "LPPool2d",
    "LPPool3d",
    "MaxPool1d",
    "MaxPool2d",
    "MaxPool3d",
    "MaxUnpool1d",
    "MaxUnpool2d",
    "MaxUnpool3d",
]


class _Windows(Module):
    """Keeps the arguments of a sliding window; a stride of None is the kernel's size.

    Subclasses name the function of `nnlib.nn.functional` that they stand for.
    """

    _function = ""

    def extra_repr(self) -> str:
        """Return the arguments."""
        return ", ".join(
            f"{name}={value}"
            for name, value in self.__dict__.items()
            if not name.startswith("_") and name != "training"
        )


class _MaxPool(_Windows):
    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        return_indices: bool = False,
        ceil_mode: bool = False,
    ) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        self.padding = padding
        self.dilation = dilation
        self.return_indices = return_indices
        self.ceil_mode = ceil_mode

    def forward(self, input: Tensor) -> Any:
        """Return the maxima, with `return_indices` also their positions."""
        return getattr(F, self._function)(
            input, self.kernel_size, self.stride, self.padding, self.dilation,
            self.ceil_mode, self.return_indices,
        )  # fmt: skip


class MaxPool1d(_MaxPool):
    """Maximum of the windows of a signal; see `nnlib.nn.functional.max_pool1d`."""

    _function = "max_pool1d"


class MaxPool2d(_MaxPool):
    """Maximum of the windows of an image; see `nnlib.nn.functional.max_pool2d`.

    Parameters
    ----------
    kernel_size, stride, padding, dilation : int or pair of int
    return_indices, ceil_mode : bool, default False

    Examples
    --------
    >>> import nnlib
    >>> tuple(MaxPool2d(2)(nnlib.zeros(1, 3, 8, 6)).shape)
    (1, 3, 4, 3)
    """

    _function = "max_pool2d"


class MaxPool3d(_MaxPool):
    """Maximum of the windows of a volume; see `nnlib.nn.functional.max_pool3d`."""

    _function = "max_pool3d"


class _FractionalMaxPool(_Windows):
    def __init__(
        self,
        kernel_size: Any,
        output_size: Any = None,
        output_ratio: Any = None,
        return_indices: bool = False,
        _random_samples: Any = None,
    ) -> None:
        super().__init__()
        if (output_size is None) == (output_ratio is None):
            raise ArgumentError(
                f"{type(self).__name__}: expected output_size or output_ratio, one of "
                "them"
            )
        self.kernel_size = kernel_size
        self.output_size = output_size
        self.output_ratio = output_ratio
        self.return_indices = return_indices
        self.register_buffer("_random_samples", _random_samples)

    def forward(self, input: Tensor) -> Any:
        """Return the maxima of the windows, with `return_indices` also their places."""
        return getattr(F, self._function)(
            input,
            self.kernel_size,
            self.output_size,
            self.output_ratio,
            self.return_indices,
            self._random_samples,
        )


class FractionalMaxPool2d(_FractionalMaxPool):
    """Maximum of windows at random places, of a wanted number, not only a fraction 1/n.

    See `nnlib.nn.functional.fractional_max_pool2d`.

    Parameters
    ----------
    kernel_size : int or pair of int
    output_size : int or pair of int, optional
    output_ratio : float or pair of float, optional
        Share of the input's size; one of both is needed.
    return_indices : bool, default False

    Raises
    ------
    ArgumentError
        If not one of `output_size` and `output_ratio` is given.

    Examples
    --------
    >>> import nnlib
    >>> pool = FractionalMaxPool2d(2, output_ratio=0.7)
    >>> tuple(pool(nnlib.zeros(1, 3, 10, 10)).shape)
    (1, 3, 7, 7)
    """

    _function = "fractional_max_pool2d"


class FractionalMaxPool3d(_FractionalMaxPool):
    """The same of volumes; see `nnlib.nn.functional.fractional_max_pool3d`."""

    _function = "fractional_max_pool3d"


class _MaxUnpool(_Windows):
    def __init__(self, kernel_size: Any, stride: Any = None, padding: Any = 0) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        self.padding = padding

    def forward(self, input: Tensor, indices: Tensor, output_size: Any = None) -> Any:
        """Return zeros with the maxima put back in their places."""
        return getattr(F, self._function)(
            input, indices, self.kernel_size, self.stride, self.padding, output_size
        )


class MaxUnpool1d(_MaxUnpool):
    """Partial inverse of `MaxPool1d`; see `nnlib.nn.functional.max_unpool1d`."""

    _function = "max_unpool1d"


class MaxUnpool2d(_MaxUnpool):
    """Partial inverse of `MaxPool2d`; see `nnlib.nn.functional.max_unpool2d`."""

    _function = "max_unpool2d"


class MaxUnpool3d(_MaxUnpool):
    """Partial inverse of `MaxPool3d`; see `nnlib.nn.functional.max_unpool3d`."""

    _function = "max_unpool3d"


class AvgPool1d(_Windows):
    """Mean of the windows of a signal; see `nnlib.nn.functional.avg_pool1d`."""

    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        self.padding = padding
        self.ceil_mode = ceil_mode
        self.count_include_pad = count_include_pad

    def forward(self, input: Tensor) -> Tensor:
        """Return the means."""
        return F.avg_pool1d(
            input, self.kernel_size, self.stride, self.padding, self.ceil_mode,
            self.count_include_pad,
        )  # fmt: skip


class _AvgPool(_Windows):
    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        self.padding = padding
        self.ceil_mode = ceil_mode
        self.count_include_pad = count_include_pad
        self.divisor_override = divisor_override

    def forward(self, input: Tensor) -> Any:
        """Return the means."""
        return getattr(F, self._function)(
            input, self.kernel_size, self.stride, self.padding, self.ceil_mode,
            self.count_include_pad, self.divisor_override,
        )  # fmt: skip


class AvgPool2d(_AvgPool):
    """Mean of the windows of an image; see `nnlib.nn.functional.avg_pool2d`.

    Parameters
    ----------
    kernel_size, stride, padding : int or pair of int
    ceil_mode : bool, default False
    count_include_pad : bool, default True
    divisor_override : int, optional

    Examples
    --------
    >>> import nnlib
    >>> tuple(AvgPool2d(3, stride=2, padding=1)(nnlib.zeros(1, 3, 8, 6)).shape)
    (1, 3, 4, 3)
    """

    _function = "avg_pool2d"


class AvgPool3d(_AvgPool):
    """Mean of the windows of a volume; see `nnlib.nn.functional.avg_pool3d`."""

    _function = "avg_pool3d"


class GaussianAvgPool2d(_Windows):
    """Distance-weighted mean; see `nnlib.nn.functional.gaussian_avg_pool2d`.

    Parameters
    ----------
    kernel_size, stride, padding : int or pair of int
    sigma : float or pair of float, optional
    ceil_mode, count_include_pad : bool, default False
    """

    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        sigma: float | tuple[float, float] | None = None,
        ceil_mode: bool = False,
        count_include_pad: bool = False,
    ) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        self.padding = padding
        self.sigma = sigma
        self.ceil_mode = ceil_mode
        self.count_include_pad = count_include_pad

    def forward(self, input: Tensor) -> Tensor:
        """Return the weighted means."""
        return F.gaussian_avg_pool2d(
            input, self.kernel_size, self.stride, self.padding, self.sigma,
            self.ceil_mode, self.count_include_pad,
        )  # fmt: skip


class _LPPool(_Windows):
    def __init__(
        self,
        norm_type: float,
        kernel_size: Any,
        stride: Any = None,
        ceil_mode: bool = False,
    ) -> None:
        super().__init__()
        self.norm_type = norm_type
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        self.ceil_mode = ceil_mode

    def forward(self, input: Tensor) -> Any:
        """Return the norms."""
        return getattr(F, self._function)(
            input, self.norm_type, self.kernel_size, self.stride, self.ceil_mode
        )


class LPPool1d(_LPPool):
    """p-norm of the windows of a signal; see `nnlib.nn.functional.lp_pool1d`."""

    _function = "lp_pool1d"


class LPPool2d(_LPPool):
    """p-norm of the windows of an image; see `nnlib.nn.functional.lp_pool2d`."""

    _function = "lp_pool2d"


class LPPool3d(_LPPool):
    """p-norm of the windows of a volume; see `nnlib.nn.functional.lp_pool3d`."""

    _function = "lp_pool3d"


class _AdaptiveAvgPool(_Windows):
    def __init__(self, output_size: Any) -> None:
        super().__init__()
        self.output_size = output_size

    def forward(self, input: Tensor) -> Any:
        """Return the means."""
        return getattr(F, self._function)(input, self.output_size)


class AdaptiveAvgPool1d(_AdaptiveAvgPool):
    """Means of evenly split windows; see `nnlib.nn.functional.adaptive_avg_pool1d`."""

    _function = "adaptive_avg_pool1d"


class AdaptiveAvgPool2d(_AdaptiveAvgPool):
    """Means of evenly split windows; see `nnlib.nn.functional.adaptive_avg_pool2d`.

    Parameters
    ----------
    output_size : int or pair of int or None
        1 makes it global pooling.

    Examples
    --------
    >>> import nnlib
    >>> tuple(AdaptiveAvgPool2d(1)(nnlib.zeros(2, 3, 8, 6)).shape)
    (2, 3, 1, 1)
    """

    _function = "adaptive_avg_pool2d"


class AdaptiveAvgPool3d(_AdaptiveAvgPool):
    """Means of evenly split windows; see `nnlib.nn.functional.adaptive_avg_pool3d`."""

    _function = "adaptive_avg_pool3d"


class _AdaptiveMaxPool(_Windows):
    def __init__(self, output_size: Any, return_indices: bool = False) -> None:
        super().__init__()
        self.output_size = output_size
        self.return_indices = return_indices

    def forward(self, input: Tensor) -> Any:
        """Return the maxima, with `return_indices` also their positions."""
        return getattr(F, self._function)(input, self.output_size, self.return_indices)


class AdaptiveMaxPool1d(_AdaptiveMaxPool):
    """Maxima of evenly split windows; see `nnlib.nn.functional.adaptive_max_pool1d`."""

    _function = "adaptive_max_pool1d"


class AdaptiveMaxPool2d(_AdaptiveMaxPool):
    """Maxima of evenly split windows; see `nnlib.nn.functional.adaptive_max_pool2d`."""

    _function = "adaptive_max_pool2d"


class AdaptiveMaxPool3d(_AdaptiveMaxPool):
    """Maxima of evenly split windows; see `nnlib.nn.functional.adaptive_max_pool3d`."""

    _function = "adaptive_max_pool3d"
