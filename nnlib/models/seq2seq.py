"""Sequence to sequence: an encoder, a decoder, and attention between them.

I. Sutskever, O. Vinyals, Q. Le: Sequence to sequence learning with neural networks,
2014; D. Bahdanau, K. Cho, Y. Bengio: Neural machine translation by jointly learning to
align and translate, 2015; M.-T. Luong, H. Pham, C. Manning: Effective approaches to
attention-based neural machine translation, 2015.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nnlib import nn
from nnlib.autograd.construct import as_tensor
from nnlib.autograd.mode import no_grad
from nnlib.autograd.tensor import Tensor
from nnlib.backend.errors import ArgumentError, ShapeError
from nnlib.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from nnlib.ops import arange, cat

__all__ = ["Decoded", "Seq2Seq"]


class Memory(NamedTuple):
    """What the decoder looks at: the encoder's outputs, and which of them count."""

    values: Tensor  # (N, S, 2H)
    mask: Tensor  # (N, S), True where there is a token


class Decoded(NamedTuple):
    """Sequences that a model wrote.

    Attributes
    ----------
    tokens : list of list of int
        Without start and stop marks.
    attention : list of numpy.ndarray, or None
        For each sequence the weights, shape (written, source length).
    """

    tokens: list[list[int]]
    attention: list[NDArray[np.float32]] | None


class Seq2Seq(nn.Module):
    """A bidirectional GRU reads, a GRU writes.

    The reader's last states, mapped to the writer's size, are its first state. With
    attention each of the writer's states then looks at all the reader's states, and
    both together give the next token (Luong et al., without feeding the result back,
    so that in training all steps are computed at once).

    Parameters
    ----------
    source_size, target_size : int
        Sizes of the two vocabularies.
    embedding, hidden : int, default 256
    attention : {"luong", "bahdanau", None}, default "luong"
    dropout : float, default 0.0
        On embeddings and on what the output layer sees.
    padding, start, stop : int, default 0, 1, 2
        Numbers of the marks in both vocabularies.

    Examples
    --------
    >>> import nnlib
    >>> model = Seq2Seq(50, 60, 16, 32)
    >>> source, lengths = nnlib.randint(3, 50, (4, 7)), nnlib.tensor([7, 3, 5, 1])
    >>> tuple(model(source, lengths, nnlib.randint(3, 60, (4, 5))).shape)
    (4, 5, 60)
    """

    def __init__(
        self,
        source_size: int,
        target_size: int,
        embedding: int = 256,
        hidden: int = 256,
        *,
        attention: str | None = "luong",
        dropout: float = 0.0,
        padding: int = 0,
        start: int = 1,
        stop: int = 2,
    ) -> None:
        super().__init__()
        if attention not in ("luong", "bahdanau", None):
            raise ArgumentError(
                "Seq2Seq: attention: expected 'luong', 'bahdanau' or None, got "
                f"{attention!r}"
            )
        self.padding, self.start, self.stop = padding, start, stop
        self.target_size = target_size
        self.read_embedding = nn.Embedding(source_size, embedding, padding)
        self.reader = nn.GRU(embedding, hidden, batch_first=True, bidirectional=True)
        self.bridge = nn.Linear(2 * hidden, hidden)
        self.write_embedding = nn.Embedding(target_size, embedding, padding)
        self.writer = nn.GRU(embedding, hidden, batch_first=True)
        self.attention: nn.Module | None = None
        if attention == "luong":
            self.attention = nn.LuongAttention(hidden, 2 * hidden, score="general")
        elif attention == "bahdanau":
            self.attention = nn.BahdanauAttention(hidden, 2 * hidden, hidden)
        seen = hidden if attention is None else 3 * hidden
        self.combine = nn.Linear(seen, embedding)
        self.output = nn.Linear(embedding, target_size)
        self.dropout = nn.Dropout(dropout)

    def encode(self, source: Tensor, lengths: Any) -> tuple[Memory, Tensor]:
        """Read source sequences.

        Parameters
        ----------
        source : Tensor of int, shape (N, S)
        lengths : Tensor or sequence of int, shape (N,)

        Returns
        -------
        Memory, and the writer's first state, shape (1, N, hidden)
        """
        if source.ndim != 2:
            raise ShapeError(
                f"Seq2Seq: source: expected shape (N, S), got {tuple(source.shape)}"
            )
        lengths = as_tensor(lengths)
        packed = pack_padded_sequence(
            self.dropout(self.read_embedding(source)),
            lengths,
            batch_first=True,
            enforce_sorted=False,
        )
        outputs, last = self.reader(packed)
        values, _ = pad_packed_sequence(
            outputs, batch_first=True, total_length=source.shape[1]
        )
        place = arange(source.shape[1], device=source.device)
        mask = place.unsqueeze(0) < lengths.to(source.device).unsqueeze(1)
        both = cat([last[0], last[1]], 1)  # (2, N, H) -> (N, 2H)
        return Memory(values, mask), self.bridge(both).tanh().unsqueeze(0)

    def forward(self, source: Tensor, lengths: Any, target: Tensor) -> Tensor:
        """Return logits of the tokens that follow (teacher forcing).

        Parameters
        ----------
        source : Tensor of int, shape (N, S)
        lengths : Tensor of int, shape (N,)
        target : Tensor of int, shape (N, T)
            What is written, from the start mark to the last token but the stop mark.

        Returns
        -------
        Tensor, shape (N, T, target_size)
        """
        memory, state = self.encode(source, lengths)
        return self._write(target, state, memory)[0]

    def _write(
        self, tokens: Tensor, state: Tensor, memory: Memory
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return logits, the state behind the tokens, and the attention's weights."""
        seen, state = self.writer(self.dropout(self.write_embedding(tokens)), state)
        weights = None
        if self.attention is not None:
            context, weights = self.attention(seen, memory.values, memory.mask)
            seen = cat([seen, context], 2)
        mixed = self.dropout(self.combine(seen).tanh())
        return self.output(mixed), state, weights

    def greedy(self, source: Tensor, lengths: Any, max_length: int = 50) -> Decoded:
        """Write the likeliest token at each step, until the stop mark.

        Parameters
        ----------
        source : Tensor of int, shape (N, S)
        lengths : Tensor of int, shape (N,)
        max_length : int, default 50

        Returns
        -------
        Decoded
        """
        with no_grad(), evaluating(self):
            memory, state = self.encode(source, lengths)
            count = source.shape[0]
            token = as_tensor(np.full((count, 1), self.start)).to(source.device)
            done = np.zeros(count, bool)
            written: list[NDArray[np.int64]] = []
            looks: list[NDArray[np.float32]] = []
            while len(written) < max_length and not done.all():
                logits, state, weights = self._write(token, state, memory)
                token = logits.argmax(2)
                column = token.cpu().numpy()[:, 0]
                done |= column == self.stop
                written.append(column)
                if weights is not None:
                    looks.append(weights.cpu().numpy()[:, 0])
            return self._finish(written, looks, np.asarray(as_tensor(lengths).cpu()))

    def _finish(
        self, written: list[Any], looks: list[Any], lengths: NDArray[np.int64]
    ) -> Decoded:
        table = np.stack(written, 1) if written else np.zeros((len(lengths), 0), int)
        tokens, pictures = [], []
        for n, row in enumerate(table):
            stops = np.flatnonzero(row == self.stop)
            end = int(stops[0]) if len(stops) else len(row)
            tokens.append([int(token) for token in row[:end]])
            if looks:
                look = np.stack([step[n] for step in looks])
                pictures.append(look[:end, : lengths[n]])
        return Decoded(tokens, pictures if looks else None)

    def beam_search(
        self,
        source: Tensor,
        lengths: Any,
        beams: int = 5,
        max_length: int = 50,
        length_penalty: float = 1.0,
    ) -> Decoded:
        """Write the sequence with the best score of those that a beam search finds.

        At each step the `beams` best beginnings are kept; the score of a sequence is
        its log probability over its length to the power of `length_penalty`.

        Parameters
        ----------
        source : Tensor of int, shape (N, S)
        lengths : Tensor of int, shape (N,)
        beams : int, default 5
        max_length : int, default 50
        length_penalty : float, default 1.0

        Returns
        -------
        Decoded
            Without attention.
        """
        if beams < 1 or max_length < 1:
            raise ArgumentError(
                "Seq2Seq: beam_search: expected beams and max_length of at least 1, "
                f"got {beams} and {max_length}"
            )
        with no_grad(), evaluating(self):
            memory, state = self.encode(source, lengths)
            search = _Beams(self, source, memory, state, beams)
            while len(search.written) < max_length and not search.done.all():
                search.step()
        return Decoded(search.best(length_penalty), None)


class _Beams:
    """The best beginnings of each sequence: rows ``n * beams + b`` of one batch."""

    def __init__(
        self, model: Seq2Seq, source: Tensor, memory: Memory, state: Tensor, beams: int
    ) -> None:
        count = source.shape[0]
        self.model, self.beams, self.count = model, beams, count
        self.device = source.device
        rows = self.tensor(np.repeat(np.arange(count), beams))
        self.memory = Memory(memory.values[rows], memory.mask[rows])
        self.state = state[:, rows]
        self.token = np.full((count * beams, 1), model.start)
        # At first all beams are the same: one alone may go on.
        self.scores = np.full((count, beams), -np.inf)
        self.scores[:, 0] = 0
        self.done = np.zeros((count, beams), bool)
        self.lengths = np.zeros((count, beams), np.int64)
        self.written: list[NDArray[np.int64]] = []

    def tensor(self, array: NDArray[Any]) -> Tensor:
        return as_tensor(array).to(self.device)

    def step(self) -> None:
        model, beams, count = self.model, self.beams, self.count
        logits, state, _ = model._write(
            self.tensor(self.token), self.state, self.memory
        )
        chances = logits[:, 0].log_softmax(1).cpu().numpy().astype(np.float64)
        chances = chances.reshape(count, beams, -1)
        # What has ended stays as it is: nothing but padding follows, for free.
        chances[self.done] = -np.inf
        chances[self.done, model.padding] = 0
        size = chances.shape[2]
        total = (self.scores[:, :, None] + chances).reshape(count, -1)
        best = np.argsort(-total, axis=1, kind="stable")[:, :beams]
        origin, token = best // size, best % size
        rows = np.arange(count)[:, None]
        self.scores = total[rows, best]
        done = self.done[rows, origin]
        self.lengths = self.lengths[rows, origin] + ~done
        self.done = done | (token == model.stop)
        self.written = [column[rows, origin] for column in self.written]
        self.written.append(np.where(done, model.padding, token))
        self.token = token.reshape(-1, 1)
        self.state = state[:, self.tensor((rows * beams + origin).reshape(-1))]

    def best(self, length_penalty: float) -> list[list[int]]:
        value = self.scores / np.maximum(self.lengths, 1) ** length_penalty
        # A beginning that has not ended loses to any sequence that has.
        value = np.where(self.done.any(1, keepdims=True) & ~self.done, -np.inf, value)
        found = []
        for n, b in enumerate(value.argmax(1)):
            row = [int(column[n, b]) for column in self.written][: self.lengths[n, b]]
            found.append(row[:-1] if self.done[n, b] else row)
        return found


class evaluating:  # noqa: N801
    """Context in which a model is in evaluation mode; its modes come back after."""

    def __init__(self, model: nn.Module) -> None:
        self.modes = [(module, module.training) for module in model.modules()]
        self.model = model

    def __enter__(self) -> None:
        self.model.eval()

    def __exit__(self, *_: object) -> None:
        for module, mode in self.modes:
            module.training = mode
