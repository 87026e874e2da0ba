"""Prompt in, text out: greedy decoding in batches whose requests wear different adapters."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import torch
from torch import Tensor

from hybridqa.errors import AdapterMismatchError, QuestionError
from hybridqa.models.base import BaseModel
from hybridqa.models.lora import stack, worn
from hybridqa.models.quote import Evidence, QuoteState, Vocabulary
from hybridqa.protocols import Generation, Prompt

ABSTENTION = "The text does not say."
"""What a reader answers where the passages bear no answer; never shown as an answer."""

_PAD = 0
"""Stands where no token is; masked, so any will do."""


class TorchGenerator:
    """A `Generator` on a transformers model. Thread-safe."""

    def __init__(self, base: BaseModel, stop_tokens: Sequence[int] | None = None) -> None:
        """Wire the pieces.

        Args:
            base: The frozen model.
            stop_tokens: That end an answer; by default the model's own. Without any, every answer
                has `max_tokens` tokens.
        """
        self._base = base
        self._vocabulary = Vocabulary.of(base.tokenizer)
        self._evidence = lru_cache(maxsize=64)(self._index_evidence)
        self._eos = _eos(base) if stop_tokens is None else list(stop_tokens)
        self._context = int(getattr(base.model.config, "max_position_embeddings", 1 << 30))

    @property
    def model_fingerprint(self) -> str:
        return self._base.fingerprint

    def generate(self, prompts: Sequence[Prompt]) -> list[Generation]:
        """Return one generation per prompt, in order; see `protocols.Generator`."""
        if not prompts:
            return []
        began = time.perf_counter()
        rows = self._rows(prompts)
        for _ in self._decode(prompts, rows, began):
            pass
        return [self._finish(row) for row in rows]

    def score(self, prompts: Sequence[Prompt], answers: Sequence[str]) -> list[float]:
        """Return the likelihood of each answer after its prompt; see `protocols.Generator`."""
        if not prompts:
            return []
        self._check_adapters(prompts)
        targets = [self._base.plain_ids(answer) + self._eos[:1] for answer in answers]
        sequences = [
            self.prompt_ids(prompt) + target
            for prompt, target in zip(prompts, targets, strict=True)
        ]
        ids, mask, positions = self._padded(sequences)
        stacked = stack(self._base.model, [prompt.adapters for prompt in prompts])
        with torch.inference_mode(), worn(self._base, stacked) as model:
            logits = model(
                input_ids=ids,
                attention_mask=mask,
                position_ids=positions,
                use_cache=False,
                logits_to_keep=max(map(len, targets)) + 1,
            ).logits
        logprobs = torch.log_softmax(logits.float(), dim=-1)
        scores = []
        for row, target in zip(logprobs, targets, strict=True):
            # Padding is on the left: the answer's last token is predicted before the last place.
            predicted = row[-len(target) - 1 : -1].gather(1, ids.new_tensor(target)[:, None])
            scores.append(float(predicted.mean().exp()))
        return scores

    def stream(self, prompt: Prompt) -> Iterator[str]:
        """Yield the answer's text as it grows; the pieces join to the generation's text."""
        began = time.perf_counter()
        rows = self._rows([prompt])
        shown = ""
        for _ in self._decode([prompt], rows, began):
            text = self._text(rows[0])
            # A trailing replacement character is half of a multi-byte character.
            if text.startswith(shown) and not text.endswith("\ufffd"):
                # An abstention is no answer: hold text back while it may become one.
                if ABSTENTION.startswith(text):
                    continue
                yield text[len(shown) :]
                shown = text
        final = self._finish(rows[0])
        if final.text.startswith(shown):
            yield final.text[len(shown) :]

    def prompt_ids(self, prompt: Prompt) -> list[int]:
        """Return the tokens of the chat turn: passages, blank line, question.

        Raises:
            QuestionError: The prompt and its answer do not fit the model's context.
        """
        tokenizer = self._base.tokenizer
        content = "\n\n".join([*prompt.passages, prompt.question])
        content = neutralize(content, _special_strings(tokenizer))
        if tokenizer.chat_template:
            text = tokenizer.apply_chat_template(
                [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
            )
            ids = self._base.chat_ids(str(text))
        else:
            ids = self._base.chat_ids(f"{content}\n\n", add_special_tokens=True)
        if len(ids) + prompt.max_tokens > self._context:
            raise QuestionError(
                f"The prompt has {len(ids)} tokens (question {len(prompt.question)} characters, "
                f"{len(prompt.passages)} passages), and with {prompt.max_tokens} tokens of answer "
                f"exceeds the model's context of {self._context}. Shorten the question or lower "
                "`answer: passages`."
            )
        return ids

    def _check_adapters(self, prompts: Sequence[Prompt]) -> None:
        for adapter in {id(a): a for p in prompts for a in p.adapters}.values():
            if adapter.model_fingerprint != self._base.fingerprint:
                raise AdapterMismatchError(
                    adapter.id, adapter.model_fingerprint, self._base.fingerprint
                )

    def _padded(self, sequences: Sequence[list[int]]) -> tuple[Tensor, Tensor, Tensor]:
        """Return token ids, attention mask and positions, padded on the left."""
        longest = max(map(len, sequences))
        ids = torch.tensor([[_PAD] * (longest - len(s)) + s for s in sequences])
        mask = torch.tensor([[0] * (longest - len(s)) + [1] * len(s) for s in sequences])
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        device = self._base.device
        return ids.to(device), mask.to(device), positions.to(device)

    def _rows(self, prompts: Sequence[Prompt]) -> list[_Row]:
        self._check_adapters(prompts)
        rows = []
        for prompt in prompts:
            row = _Row(self.prompt_ids(prompt), prompt.max_tokens)
            if prompt.quote_from is not None:
                row.evidence = self._evidence(tuple(prompt.quote_from))
                row.state = row.evidence.start
            rows.append(row)
        return rows

    def _index_evidence(self, texts: tuple[str, ...]) -> Evidence:
        return Evidence(texts, self._vocabulary, whole=(ABSTENTION,))

    def _decode(self, prompts: Sequence[Prompt], rows: list[_Row], began: float) -> Iterator[None]:
        """Run the model token by token; yield after every step."""
        from transformers import DynamicCache

        ids, mask, positions = self._padded([row.prompt for row in rows])
        stacked = stack(self._base.model, [prompt.adapters for prompt in prompts])
        cache = DynamicCache(config=self._base.model.config)
        while not all(row.done for row in rows):
            # The lock is held step by step: whoever reads a stream slowly keeps nobody waiting.
            with torch.inference_mode(), worn(self._base, stacked) as model:
                logits = model(
                    input_ids=ids,
                    attention_mask=mask,
                    position_ids=positions,
                    past_key_values=cache,
                    use_cache=True,
                    logits_to_keep=1,
                ).logits[:, -1]
            tokens = self._choose(logits, rows, began)
            ids = ids.new_tensor(tokens)[:, None]
            mask = torch.cat([mask, mask.new_ones(len(rows), 1)], dim=1)
            positions = positions[:, -1:] + 1
            yield

    def _choose(self, logits: Tensor, rows: list[_Row], began: float) -> list[int]:
        """Take the best allowed token of every unfinished row; finished ones get padding."""
        logprobs = torch.log_softmax(logits.float(), dim=-1)
        best = logprobs.argmax(-1).tolist()
        elapsed_s = time.perf_counter() - began  # only now has a GPU done its work
        tokens = []
        for n, row in enumerate(rows):
            if row.done:
                tokens.append(_PAD)
                continue
            token = best[n]
            if row.evidence is not None and row.state is not None:
                allowed = list(row.evidence.allowed(row.state))
                if row.evidence.may_end(row.state) or not allowed:
                    allowed += self._eos
                if not allowed:
                    row.done = True
                    tokens.append(_PAD)
                    continue
                at = torch.tensor(allowed, device=logits.device)
                token = allowed[int(logprobs[n, at].argmax())]
            row.take(token, float(logprobs[n, token]), elapsed_s, token in self._eos)
            tokens.append(token)
        return tokens

    def _text(self, row: _Row) -> str:
        if row.evidence is not None:
            return row.evidence.text(row.quoted) if row.quoted is not None else ""
        tokens = [token for token in row.tokens if token not in self._eos]
        return str(self._base.tokenizer.decode(tokens, skip_special_tokens=True)).strip()

    def _finish(self, row: _Row) -> Generation:
        text, span = self._text(row), None
        if row.evidence is not None and row.quoted is not None:
            span = row.evidence.span(row.quoted)
        abstained = not text or text == ABSTENTION or (row.evidence is not None and span is None)
        return Generation(
            text="" if abstained else text,
            token_ids=tuple(row.tokens),
            logprobs=tuple(row.logprobs),
            span=span,
            abstained=abstained,
            prompt_tokens=len(row.prompt),
            first_token_s=row.first_token_s,
            seconds=row.seconds,
        )


@dataclass(eq=False)
class _Row:
    """One request while it is being decoded."""

    prompt: list[int]
    max_tokens: int
    evidence: Evidence | None = None
    state: QuoteState | None = None
    quoted: QuoteState | None = None
    """The last state in which the answer was a span of whole words."""
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    first_token_s: float = 0.0
    seconds: float = 0.0
    done: bool = False

    def take(self, token: int, logprob: float, elapsed_s: float, ends: bool) -> None:
        if not self.tokens:
            self.first_token_s = elapsed_s
        self.tokens.append(token)
        self.logprobs.append(logprob)
        self.seconds = elapsed_s
        if self.evidence is not None and self.state is not None and not ends:
            self.state = self.evidence.advance(self.state, token)
            if self.evidence.may_end(self.state):
                self.quoted = self.state
        self.done = ends or len(self.tokens) >= self.max_tokens


def _eos(base: BaseModel) -> list[int]:
    config = base.model.generation_config
    eos = config.eos_token_id if config is not None else None
    eos = base.tokenizer.eos_token_id if eos is None else eos
    return [eos] if isinstance(eos, int) else list(eos)


@lru_cache(maxsize=8)
def _special_strings(tokenizer: object) -> tuple[str, ...]:
    added = tokenizer.added_tokens_decoder.values()  # type: ignore[attr-defined]
    return tuple(str(token.content) for token in added if token.special)


def neutralize(content: str, special: Sequence[str]) -> str:
    """Break up special tokens in user text, so that a document cannot end its own turn."""
    for token in special:
        if token in content:
            content = content.replace(token, f"{token[:1]} {token[1:]}")
    return content
