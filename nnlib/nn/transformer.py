"""The Transformer: stacks of its layers, and the whole of them."""

from __future__ import annotations

import copy
import math
from typing import Any

from nnlib.autograd.mode import state
from nnlib.autograd.places import on_its_device
from nnlib.autograd.tensor import Tensor
from nnlib.backend.device import array_module, device_context, module_of, resolve_device
from nnlib.backend.dtypes import get_default_dtype, resolve_dtype
from nnlib.backend.errors import ShapeError
from nnlib.nn import functional as F
from nnlib.nn import init
from nnlib.nn.containers import ModuleList
from nnlib.nn.module import Module
from nnlib.nn.normalization_rows import LayerNorm
from nnlib.nn.transformer_layers import (
    TransformerDecoderLayer,
    TransformerEncoderLayer,
)

__all__ = ["Transformer", "TransformerDecoder", "TransformerEncoder"]


def _copies(layer: Module, count: int) -> ModuleList:
    return ModuleList([copy.deepcopy(layer) for _ in range(count)])


@on_its_device
def is_causal_mask(mask: Any, length: int) -> bool:
    """Tell whether a mask hides just what comes later."""
    if mask is None or tuple(mask.shape) != (length, length):
        return False
    if state.modes.interpreter is not None:
        # Its numbers are not for reading: vmap, or an export.
        return False
    array = mask._array
    module = array_module(array)
    later = module.arange(length) > module.arange(length)[:, None]
    if array.dtype == bool:
        return bool((array == later).all())
    wanted = module.where(later, -math.inf, 0.0)
    return bool((array == wanted).all())


class TransformerEncoder(Module):
    """A stack of encoder layers, copies of one at first.

    Parameters
    ----------
    encoder_layer : TransformerEncoderLayer
        Copied, not used.
    num_layers : int
    norm : Module, optional
        Applied to the result.
    enable_nested_tensor, mask_check : bool
        For PyTorch's callers; without effect.

    Examples
    --------
    >>> import nnlib
    >>> layer = TransformerEncoderLayer(8, 2, 16, batch_first=True)
    >>> tuple(TransformerEncoder(layer, 2)(nnlib.randn(3, 5, 8)).shape)
    (3, 5, 8)
    """

    def __init__(
        self,
        encoder_layer: TransformerEncoderLayer,
        num_layers: int,
        norm: Module | None = None,
        enable_nested_tensor: bool = True,
        mask_check: bool = True,
    ) -> None:
        super().__init__()
        self.layers = _copies(encoder_layer, num_layers)
        self.num_layers = num_layers
        self.norm = norm

    def forward(
        self,
        src: Tensor,
        mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        is_causal: bool | None = None,
    ) -> Tensor:
        """Return the encoded sequence.

        Parameters
        ----------
        src : Tensor, shape (L, N, E), or (N, L, E) with layers of that order
        mask, src_key_padding_mask : Tensor, optional
            As for `MultiheadAttention`.
        is_causal : bool, optional
            Whether `mask` is the causal one; found out by default.
        """
        if is_causal is None:
            is_causal = is_causal_mask(mask, _length(src, self.layers))
        for layer in self.layers:
            src = layer(src, mask, src_key_padding_mask, is_causal)
        return src if self.norm is None else self.norm(src)


def _length(x: Tensor, layers: ModuleList) -> int:
    first = len(layers) and getattr(layers[0].self_attn, "batch_first", False)
    return int(x.shape[1 if first and x.ndim == 3 else 0])


class TransformerDecoder(Module):
    """A stack of decoder layers, copies of one at first.

    Parameters
    ----------
    decoder_layer : TransformerDecoderLayer
        Copied, not used.
    num_layers : int
    norm : Module, optional
        Applied to the result.
    """

    def __init__(
        self,
        decoder_layer: TransformerDecoderLayer,
        num_layers: int,
        norm: Module | None = None,
    ) -> None:
        super().__init__()
        self.layers = _copies(decoder_layer, num_layers)
        self.num_layers = num_layers
        self.norm = norm

    def forward(
        self,
        tgt: Tensor,
        memory: Tensor,
        tgt_mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
        tgt_key_padding_mask: Tensor | None = None,
        memory_key_padding_mask: Tensor | None = None,
        tgt_is_causal: bool | None = None,
        memory_is_causal: bool = False,
    ) -> Tensor:
        """Return the sequence `tgt` after the layers, which have read `memory`."""
        if tgt_is_causal is None:
            tgt_is_causal = is_causal_mask(tgt_mask, _length(tgt, self.layers))
        for layer in self.layers:
            tgt = layer(
                tgt, memory, tgt_mask, memory_mask, tgt_key_padding_mask,
                memory_key_padding_mask, tgt_is_causal, memory_is_causal,
            )  # fmt: skip
        return tgt if self.norm is None else self.norm(tgt)


class Transformer(Module):
    """Encoder and decoder.

    Parameters
    ----------
    d_model, nhead : int, default 512, 8
    num_encoder_layers, num_decoder_layers : int, default 6
    dim_feedforward, dropout, activation, layer_norm_eps, batch_first, norm_first, bias
        As for `TransformerEncoderLayer`.
    custom_encoder, custom_decoder : Module, optional
        In place of the stacks.

    Examples
    --------
    >>> import nnlib
    >>> model = Transformer(8, 2, 1, 1, 16, batch_first=True)
    >>> mask = Transformer.generate_square_subsequent_mask(4)
    >>> out = model(nnlib.randn(3, 5, 8), nnlib.randn(3, 4, 8), tgt_mask=mask)
    >>> tuple(out.shape)
    (3, 4, 8)
    """

    def __init__(
        self,
        d_model: int = 512,
        nhead: int = 8,
        num_encoder_layers: int = 6,
        num_decoder_layers: int = 6,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: Any = F.relu,
        custom_encoder: Any = None,
        custom_decoder: Any = None,
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        made = {"device": device, "dtype": dtype}
        parts = (
            d_model, nhead, dim_feedforward, dropout, activation, layer_norm_eps,
            batch_first, norm_first, bias,
        )  # fmt: skip
        if custom_encoder is None:
            norm = LayerNorm(d_model, layer_norm_eps, bias=bias, **made)
            layer = TransformerEncoderLayer(*parts, **made)
            custom_encoder = TransformerEncoder(layer, num_encoder_layers, norm)
        self.encoder = custom_encoder
        if custom_decoder is None:
            norm = LayerNorm(d_model, layer_norm_eps, bias=bias, **made)
            other = TransformerDecoderLayer(*parts, **made)
            custom_decoder = TransformerDecoder(other, num_decoder_layers, norm)
        self.decoder = custom_decoder
        self.d_model, self.nhead, self.batch_first = d_model, nhead, batch_first
        for parameter in self.parameters():
            if parameter.ndim > 1:
                init.xavier_uniform_(parameter)

    def forward(
        self,
        src: Tensor,
        tgt: Tensor,
        src_mask: Tensor | None = None,
        tgt_mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        tgt_key_padding_mask: Tensor | None = None,
        memory_key_padding_mask: Tensor | None = None,
        src_is_causal: bool | None = None,
        tgt_is_causal: bool | None = None,
        memory_is_causal: bool = False,
    ) -> Tensor:
        """Return `tgt` after the decoder, which has read the encoded `src`."""
        for name, x in (("src", src), ("tgt", tgt)):
            if x.shape[-1] != self.d_model:
                raise ShapeError(
                    f"Transformer: {name}: expected {self.d_model} features, got shape "
                    f"{tuple(x.shape)}"
                )
        memory = self.encoder(src, src_mask, src_key_padding_mask, src_is_causal)
        return self.decoder(  # type: ignore[no-any-return]
            tgt, memory, tgt_mask, memory_mask, tgt_key_padding_mask,
            memory_key_padding_mask, tgt_is_causal, memory_is_causal,
        )  # fmt: skip

    @staticmethod
    def generate_square_subsequent_mask(
        sz: int, device: Any = None, dtype: Any = None
    ) -> Tensor:
        """Return the mask that hides what comes later: minus infinity above.

        Examples
        --------
        >>> Transformer.generate_square_subsequent_mask(2)
        tensor([[  0., -inf],
                [  0.,   0.]])
        """
        place = resolve_device(device)
        kind = get_default_dtype() if dtype is None else resolve_dtype(dtype)
        with device_context(place):
            module = module_of(place)
            later = module.arange(sz) > module.arange(sz)[:, None]
            return Tensor._from_array(module.where(later, -math.inf, 0.0).astype(kind))
