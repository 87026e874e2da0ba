"""Groups of passages and what is asked of them as tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import DynamicCache

from hybridqa.models.base import BaseModel
from hybridqa.models.generator import TorchGenerator
from hybridqa.protocols import Prompt
from hybridqa.training.ahead import Sent
from hybridqa.training.batches import NOTHING

_LONGEST_QUESTION = 80
"""Tokens, as all questions of a group lie side by side."""


@dataclass(frozen=True)
class Ask:
    """A question or an instruction, and which passages of its group it sees."""

    text: str
    answer: str
    seen: Sequence[int]


@dataclass(frozen=True)
class Group:
    """Texts and what is asked of them."""

    passages: Sequence[str]
    asks: Sequence[Ask]


@dataclass(frozen=True, eq=False)
class ReadingBatch(Sent):
    """Passages, a row each, and what is asked of a group of them, a row for each group."""

    passages: Tensor
    """(passages, tokens): the beginning of a prompt and a passage, padded on the right."""
    known: Tensor
    """(rows, known): places in `passages`, flattened, of which a group is made."""
    ids: Tensor
    """(rows, tokens): questions and answers side by side, padded on the right."""
    positions: Tensor
    """(rows, tokens): as if only what a question sees stood before it."""
    attention: Tensor
    """(rows, 1, tokens, known + tokens): what sees what."""
    labels: Tensor
    """(rows, tokens): the next token of an answer, or `NOTHING`."""
    first: Tensor
    """(rows, tokens): where an answer's first token is due."""

    def to(self, device: torch.device) -> ReadingBatch:
        """Return the same on a device."""
        return ReadingBatch(**{name: tensor.to(device) for name, tensor in vars(self).items()})

    def states(self, decoder: Any) -> Tensor:
        """Return a decoder's last hidden states (rows, tokens, hidden)."""
        length = self.passages.shape[1]
        triangle = torch.ones(1, 1, length, length, dtype=torch.bool, device=self.ids.device).tril()
        read = decoder(input_ids=self.passages, attention_mask=triangle, use_cache=True)
        memory = DynamicCache()
        for n, layer in enumerate(read.past_key_values.layers):
            memory.update(self._group(layer.keys), self._group(layer.values), n)
        return torch.as_tensor(
            decoder(
                input_ids=self.ids,
                attention_mask=self.attention,
                position_ids=self.positions,
                past_key_values=memory,
            ).last_hidden_state
        )

    def _group(self, read: Tensor) -> Tensor:
        """Return (rows, heads, known, width) of passages' (passages, heads, tokens, width)."""
        return read.transpose(1, 2).flatten(0, 1)[self.known].transpose(1, 2)


class Layout:
    """Lays out groups as tensors for one base model."""

    def __init__(self, base: BaseModel, passage_tokens: int) -> None:
        self._base, self._longest = base, passage_tokens
        self._generator = TorchGenerator(base)
        self._end = int(base.tokenizer.eos_token_id)

    def pack(self, groups: Sequence[Group]) -> ReadingBatch:
        """Return a batch; what is asked at too great a length is left out."""
        rows = [self._row(group) for group in groups]
        passages = [passage for row in rows for passage in row.passages]
        longest = max(len(row.ids) for row in rows)
        known = max(row.known for row in rows)
        size = len(rows), longest
        ids, positions = torch.zeros(size, dtype=torch.long), torch.zeros(size, dtype=torch.long)
        labels = torch.full(size, NOTHING)
        first = torch.zeros(size, dtype=torch.bool)
        attention = torch.zeros(len(rows), 1, longest, known + longest, dtype=torch.bool)
        # Padding sees itself, lest it be NaN.
        attention[:, 0, :, known:] |= torch.eye(longest, dtype=torch.bool)
        texts = pad_sequence([torch.tensor(passage) for passage in passages], batch_first=True)
        places = (
            torch.arange(texts.numel()).view(texts.shape).split([len(r.passages) for r in rows])
        )
        shown = torch.zeros(len(rows), known, dtype=torch.long)
        for n, row in enumerate(rows):
            count = len(row.ids)
            shown[n, : row.known] = row.places(places[n])
            ids[n, :count], positions[n, :count] = torch.tensor(row.ids), torch.tensor(row.at)
            labels[n, :count] = torch.tensor(row.due)
            first[n, row.first] = True
            seen = row.attention()
            attention[n, 0, :count, : row.known] = seen[:, : row.known]
            attention[n, 0, :count, known : known + count] = seen[:, row.known :]
        return ReadingBatch(texts, shown, ids, positions, attention, labels, first)

    def _row(self, group: Group) -> _Row:
        tokens = [self._passage(text) for text in group.passages]
        row = _Row(tokens[0][0], [passage for _, passage in tokens])
        for ask in group.asks:
            if self.fits(ask):
                question = self._prompt(ask.text)[len(row.beginning) :]
                row.ask(question, [*self._base.plain_ids(ask.answer), self._end], ask.seen)
        return row

    def fits(self, ask: Ask) -> bool:
        """Tell whether what is asked is short enough."""
        return len(self._base.plain_ids(ask.text)) <= _LONGEST_QUESTION

    def _passage(self, text: str) -> tuple[list[int], list[int]]:
        """Return the tokens that a prompt begins with, and those of a passage in it."""
        bare, whole = self._prompt("?"), self._prompt("?", text)
        start = next(n for n, (a, b) in enumerate(zip(bare, whole, strict=False)) if a != b)
        passage = whole[start : len(whole) - (len(bare) - start)]
        return bare[:start], passage[: self._longest]

    def _prompt(self, question: str, *passages: str) -> list[int]:
        return self._generator.prompt_ids(
            Prompt(question=question, passages=passages, max_tokens=1)
        )


class _Row:
    """What is asked of one group while it is laid out."""

    def __init__(self, beginning: Sequence[int], passages: Sequence[Sequence[int]]) -> None:
        self.beginning = beginning
        self.passages = [[*beginning, *passage] for passage in passages]
        self.ids: list[int] = []
        self.at: list[int] = []
        self.due: list[int] = []
        self.first: list[int] = []
        self._part = [0] * len(beginning)
        """Of the group: the beginning, the passages, and what is asked, each a part."""
        for number, passage in enumerate(passages, 1):
            self._part += [number] * len(passage)
        self.known = len(self._part)
        self._seen = [{number} for number in range(len(passages) + 1)]
        """Per part, the parts it sees beside the beginning."""

    def ask(self, question: Sequence[int], answer: Sequence[int], seen: Sequence[int]) -> None:
        start = max(len(self.passages[n]) for n in seen)
        together = [*question, *answer[:-1]]
        self.first.append(len(self.ids) + len(question) - 1)
        self.ids += together
        self.at += range(start, start + len(together))
        self.due += [NOTHING] * (len(question) - 1) + list(answer)
        self._part += [len(self._seen)] * len(together)
        self._seen.append({len(self._seen), *(n + 1 for n in seen)})

    def places(self, passages: Tensor) -> Tensor:
        """Pick (known,) of (passages, tokens): the beginning once, then all passages."""
        start = len(self.beginning)
        rows = zip(self.passages, passages, strict=True)
        parts = [row[start : len(passage)] for passage, row in rows]
        return torch.cat([passages[0, :start], *parts])

    def attention(self) -> Tensor:
        """Return (tokens, known + tokens): what sees what."""
        parts = torch.tensor(self._part)
        sees = torch.zeros(len(self._seen), len(self._seen), dtype=torch.bool)
        sees[:, 0] = True
        for number, seen in enumerate(self._seen):
            sees[number, list(seen)] = True
        asked = torch.ones(len(self.ids), len(parts), dtype=torch.bool).tril(self.known)
        return sees[parts[self.known :]][:, parts] & asked
