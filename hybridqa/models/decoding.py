"""Greedy decoding of a batch that requests may join and leave between any two tokens."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from hybridqa.models.base import BaseModel
from hybridqa.models.lora import stack, worn
from hybridqa.models.padding import PAD, padded
from hybridqa.models.prefixes import Prefix
from hybridqa.models.quote import Evidence, QuoteState
from hybridqa.protocols import Prompt

if TYPE_CHECKING:
    from transformers import DynamicCache


@dataclass(eq=False)
class Row:
    """One request while it is being decoded."""

    asked: Prompt
    prompt: list[int]
    """Token ids."""
    windows: Sequence[Sequence[int]] = ()
    """Where there are several passages: for each, the prompt's beginning and the passage; they are
    read apart, see `windows`. The prompt goes on after the last of them."""
    beginning: int = 0
    """Tokens that all windows begin with."""
    evidence: Evidence | None = None
    began: float = field(default_factory=time.perf_counter)
    state: QuoteState | None = None
    quoted: QuoteState | None = None
    """The last state in which the answer was a span of whole words."""
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    first_token_s: float = 0.0
    seconds: float = 0.0
    done: bool = False
    weight: float = 1.0
    """Of what it makes of the next token, see `Prompt.pool`."""
    pool: list[Row] = field(default_factory=list)
    """Rows that have a say in what follows this one."""
    leader: Row | None = None
    """Whose tokens it takes, if it is in that one's pool."""

    def __post_init__(self) -> None:
        if self.evidence is not None:
            self.state = self.evidence.start

    def allowed(self, eos: Sequence[int]) -> list[int] | None:
        """Return the tokens that may come next; `None` allows all."""
        if self.evidence is None or self.state is None:
            return None
        allowed = list(self.evidence.allowed(self.state))
        if self.evidence.may_end(self.state) or not allowed:
            allowed += eos
        return allowed

    def take(self, token: int, logprob: float, ends: bool) -> None:
        elapsed_s = time.perf_counter() - self.began
        if not self.tokens:
            self.first_token_s = elapsed_s
        self.tokens.append(token)
        self.logprobs.append(logprob)
        self.seconds = elapsed_s
        if self.evidence is not None and self.state is not None and not ends:
            self.state = self.evidence.advance(self.state, token)
            if self.evidence.may_end(self.state):
                self.quoted = self.state
        self.done = ends or len(self.tokens) >= self.asked.max_tokens


class Batch:
    """Rows side by side: prompts are padded on the left, so that all end at the same place."""

    def __init__(
        self,
        base: BaseModel,
        rows: Sequence[Row],
        eos: Sequence[int],
        known: Sequence[Prefix | None] = (),
    ) -> None:
        """Lay out the rows; nothing is computed yet.

        Args:
            base: The frozen model.
            rows: At least one, new.
            eos: Tokens that end an answer.
            known: What the model has made of the beginning of each row's prompt.
        """
        from transformers import DynamicCache

        self.rows = list(rows)
        self._base, self._eos = base, list(eos)
        self._cache = DynamicCache(config=base.model.config)
        known = known or [None] * len(rows)
        lengths = [len(prefix.ids) if prefix else 0 for prefix in known]
        new = [row.prompt[length:] for row, length in zip(self.rows, lengths, strict=True)]
        self._ids, fresh = padded(new, base.device, left=True)
        old = torch.zeros(len(rows), max(lengths), dtype=fresh.dtype, device=fresh.device)
        for n, length in enumerate(lengths):
            old[n, old.shape[1] - length :] = 1
        self._mask = torch.cat([old, fresh], dim=1)
        ends = fresh.new_tensor([prefix.end if prefix else 0 for prefix in known])
        self._positions = (fresh.cumsum(-1) - 1).clamp(min=0) + ends[:, None]
        if any(lengths):
            _fill(self._cache, known, max(lengths))
        self._restack()

    @property
    def done(self) -> bool:
        return all(row.done for row in self.rows)

    @property
    def joinable(self) -> bool:
        """Whether rows may join and leave, and beginnings of prompts be kept."""
        return keeps_all(self._cache)

    def read(self, keep: int) -> Tensor:
        """Run the model once.

        Args:
            keep: How many of the last places to predict from.

        Returns:
            Log-probabilities, (rows, `keep`, vocabulary).
        """
        # The model is held for one step only: whoever reads a stream slowly keeps nobody waiting.
        with torch.inference_mode(), worn(self._base, self._stacked) as model:
            logits = model(
                input_ids=self._ids,
                attention_mask=self._mask,
                position_ids=self._positions,
                past_key_values=self._cache,
                use_cache=True,
                logits_to_keep=keep,
            ).logits
            return torch.log_softmax(logits.float(), dim=-1)

    def judge(self, answers: Sequence[Sequence[Sequence[int]]]) -> list[list[float]]:
        """Read the prompts, and how likely each of their answers is; nothing can be read after it.

        All answers to a prompt are read together with it, each seeing the prompt and itself alone,
        in one row and at the same positions: as the branches of a tree (SpecInfer, Miao et al.
        2023, arXiv 2305.09781).

        Args:
            answers: Token ids of each row's answers, none of them empty.

        Returns:
            The log-likelihood of each answer.
        """
        said = [[token for answer in row for token in answer[:-1]] for row in answers]
        after = [[token for answer in row for token in answer[1:]] for row in answers]
        (rows, prompt), known = self._ids.shape, self._mask.shape[1]
        width = max(map(len, said))
        seen = torch.zeros(rows, prompt + width, known + width, dtype=torch.bool)
        offsets = torch.zeros(rows, width, dtype=torch.long)
        seen[:, :prompt, known - prompt : known] = torch.ones(prompt, prompt).tril().bool()
        seen[:, :prompt, : known - prompt] = seen[:, prompt:, :known] = True
        for n, row in enumerate(answers):
            at = 0
            for length in (len(answer) - 1 for answer in row):
                branch = slice(prompt + at, prompt + at + length)
                own = slice(known + at, known + at + length)
                seen[n, branch, own] = torch.ones(length, length).tril().bool()
                offsets[n, at : at + length] = torch.arange(length)
                at += length
        seen = seen.to(self._mask.device)
        seen[:, :, :known] &= self._mask.bool()[:, None]
        seen.diagonal(known - prompt, 1, 2).fill_(True)  # padding, too, must see something
        following = self._positions[:, -1:] + 1 + offsets.to(self._positions.device)
        prompts, self._mask = self._mask, seen[:, None]
        self._ids = torch.cat([self._ids, self._filled(said, width)], dim=1)
        self._positions = torch.cat([self._positions, following], dim=1)
        logprobs = self.read(keep=width + 1)
        self._mask = prompts  # whose keys and values can still be kept
        likely = logprobs[:, 1:].gather(-1, self._filled(after, width)[:, :, None])[:, :, 0]
        scores: list[list[float]] = []
        for first, row, rest in zip(logprobs[:, 0], answers, likely.tolist(), strict=True):
            ends = list(accumulate((len(answer) - 1 for answer in row), initial=0))
            begun = first[self._ids.new_tensor([answer[0] for answer in row])].tolist()
            scores.append(
                [b + sum(rest[i:j]) for b, (i, j) in zip(begun, pairwise(ends), strict=True)]
            )
        return scores

    def _filled(self, rows: Sequence[Sequence[int]], width: int) -> Tensor:
        return self._ids.new_tensor([[*row, *[PAD] * (width - len(row))] for row in rows])

    def step(self) -> None:
        """Every unfinished row gets a token, and those in its pool the same."""
        number = {row: n for n, row in enumerate(self.rows)}
        leads = [number[row.leader or row] for row in self.rows]
        logprobs = self._pooled(self.read(keep=1)[:, -1], leads)
        best = logprobs.argmax(-1).tolist()
        chosen = {n: self._choose(self.rows[n], logprobs[n], best[n]) for n in set(leads)}
        for row in self.rows:
            row.done = (row.leader or row).done
        self._ids = self._ids.new_tensor([chosen[n] for n in leads])[:, None]
        self._mask = torch.cat([self._mask, self._mask.new_ones(len(leads), 1)], dim=1)
        self._positions = self._positions[:, -1:] + 1

    def join(self, others: Sequence[Batch]) -> None:
        """Take in the rows of other batches; all have made a step."""
        if not others:
            return
        batches = [self, *others]
        width = max(batch._mask.shape[1] for batch in batches)
        more = [width - batch._mask.shape[1] for batch in batches]
        layers = [batch._layers for batch in batches]
        for n, layer in enumerate(self._layers):
            for name in ("keys", "values"):
                states = [getattr(theirs[n], name) for theirs in layers]
                wide = [_widened(s, s.shape[2] + by, 2) for s, by in zip(states, more, strict=True)]
                setattr(layer, name, torch.cat(wide))
        self._mask = torch.cat([_widened(batch._mask, width, 1) for batch in batches])
        self._ids = torch.cat([batch._ids for batch in batches])
        self._positions = torch.cat([batch._positions for batch in batches])
        self.rows = [row for batch in batches for row in batch.rows]
        self._restack()

    def drop_done(self) -> list[Row]:
        """Let finished rows leave, and those in their pools; returns the former."""
        kept = [n for n, row in enumerate(self.rows) if not row.done]
        left = [row for row in self.rows if row.done and row.leader is None]
        if not left:
            return left
        self.rows = [self.rows[n] for n in kept]
        if kept:
            at = torch.tensor(kept, device=self._ids.device)
            self._ids, self._positions = self._ids[at], self._positions[at]
            mask = self._mask[at]
            start = int(mask.any(0).int().argmax())  # places that only they had
            self._mask = mask[:, start:]
            for layer in self._layers:
                layer.keys = layer.keys[at, :, start:]
                layer.values = layer.values[at, :, start:]
            self._restack()
        return left

    def prefix(self, n: int) -> Prefix:
        """Return what the model made of row `n`'s prompt, in memory of its own."""
        places = self._mask[n].nonzero()[: len(self.rows[n].prompt), 0]
        layers = [(layer.keys[n][:, places], layer.values[n][:, places]) for layer in self._layers]
        return Prefix(tuple(self.rows[n].prompt), layers)

    @property
    def _layers(self) -> list[Any]:
        """The cache's layers, whose types are too many for their annotations."""
        return list(self._cache.layers)

    def _pooled(self, logprobs: Tensor, leads: Sequence[int]) -> Tensor:
        """Return log-probabilities (rows, vocabulary) in which those in a row's pool have a say.

        Args:
            logprobs: Of each row for itself.
            leads: Number of the row that each is in the pool of, or its own.
        """
        if leads == list(range(len(leads))):
            return logprobs
        weights = logprobs.new_tensor([row.weight for row in self.rows])[:, None]
        at = torch.tensor(leads, device=logprobs.device)
        return torch.zeros_like(logprobs).index_add_(0, at, weights * logprobs).log_softmax(-1)

    def _choose(self, row: Row, logprobs: Tensor, best: int) -> int:
        if row.done:
            return PAD
        token, allowed = best, row.allowed(self._eos)
        if allowed is not None:
            if not allowed:
                row.done = True
                return PAD
            token = allowed[int(logprobs[torch.tensor(allowed, device=logprobs.device)].argmax())]
        row.take(token, float(logprobs[token]), token in self._eos)
        return token

    def _restack(self) -> None:
        self._stacked = stack(self._base.model, [row.asked.adapters for row in self.rows])


def keeps_all(cache: DynamicCache) -> bool:
    """Tell whether keys and values of every place are kept.

    With a sliding window, which places are remembered depends on how they are laid out.
    """
    from transformers.cache_utils import DynamicLayer

    return all(type(layer) is DynamicLayer for layer in cache.layers)


def _widened(tensor: Tensor, size: int, dim: int) -> Tensor:
    """Return a tensor padded with zeros in front, along a dimension."""
    shape = list(tensor.shape)
    shape[dim] = size - shape[dim]
    return torch.cat([tensor.new_zeros(shape), tensor], dim) if shape[dim] else tensor


def _fill(cache: DynamicCache, known: Sequence[Prefix | None], width: int) -> None:
    """Lay beginnings of prompts side by side, padded on the left."""
    some = next(prefix for prefix in known if prefix)
    for n, parts in enumerate(some.layers):
        states = []
        for which, part in enumerate(parts):
            heads, _, size = part.shape
            side_by_side = part.new_zeros(len(known), heads, width, size)
            for row, prefix in enumerate(known):
                if prefix:
                    side_by_side[row, :, width - len(prefix.ids) :] = prefix.layers[n][which]
            states.append(side_by_side)
        cache.update(states[0], states[1], n)
