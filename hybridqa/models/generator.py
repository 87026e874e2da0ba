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


class TorchGenerator:
    """A `Generator` on a transformers model. Thread-safe."""

    def __init__(self, base: BaseModel) -> None:
        self._base = base
        self._vocabulary = Vocabulary.of(base.tokenizer)
        self._evidence = lru_cache(maxsize=64)(self._index_evidence)
        config = base.model.generation_config
        eos = config.eos_token_id if config is not None else None
        eos = base.tokenizer.eos_token_id if eos is None else eos
        self._eos = [eos] if isinstance(eos, int) else list(eos)
        self._context = int(getattr(base.model.config, "max_position_embeddings", 1 << 30))

    @property
    def model_fingerprint(self) -> str:
        return self._base.fingerprint

    def generate(self, prompts: Sequence[Prompt]) -> list[Generation]:
        """Return one generation per prompt, in order; see `protocols.Generator`."""
        if not prompts:
            return []
        rows = self._rows(prompts)
        for _ in self._decode(prompts, rows):
            pass
        return [self._finish(row) for row in rows]

    def stream(self, prompt: Prompt) -> Iterator[str]:
        """Yield the answer's text as it grows; the pieces join to the generation's text.

        In quote style the text may end with part of a word until the answer is complete.
        """
        rows = self._rows([prompt])
        shown = ""
        for _ in self._decode([prompt], rows):
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
            ids = list(tokenizer(text, add_special_tokens=False)["input_ids"])
        else:
            ids = list(tokenizer(f"{content}\n\n")["input_ids"])
        if len(ids) + prompt.max_tokens > self._context:
            raise QuestionError(
                f"The prompt has {len(ids)} tokens (question {len(prompt.question)} characters, "
                f"{len(prompt.passages)} passages), and with {prompt.max_tokens} tokens of answer "
                f"exceeds the model's context of {self._context}. Shorten the question or lower "
                "`answer: passages`."
            )
        return ids

    def _rows(self, prompts: Sequence[Prompt]) -> list[_Row]:
        for adapter in {id(a): a for p in prompts for a in p.adapters}.values():
            if adapter.model_fingerprint != self._base.fingerprint:
                raise AdapterMismatchError(
                    adapter.id, adapter.model_fingerprint, self._base.fingerprint
                )
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

    def _decode(self, prompts: Sequence[Prompt], rows: list[_Row]) -> Iterator[None]:
        """Run the model token by token; yield after every step."""
        from transformers import DynamicCache

        began = time.perf_counter()
        longest = max(len(row.prompt) for row in rows)
        device, pad = self._base.device, self._eos[0]
        ids = torch.tensor([[pad] * (longest - len(r.prompt)) + r.prompt for r in rows])
        mask = torch.tensor([[0] * (longest - len(r.prompt)) + [1] * len(r.prompt) for r in rows])
        ids, mask = ids.to(device), mask.to(device)
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
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
            tokens = self._choose(logits, rows, time.perf_counter() - began)
            ids = torch.tensor(tokens, device=device)[:, None]
            mask = torch.cat([mask, mask.new_ones(len(rows), 1)], dim=1)
            positions = positions[:, -1:] + 1
            yield

    def _choose(self, logits: Tensor, rows: list[_Row], elapsed_s: float) -> list[int]:
        """Take the best allowed token of every unfinished row; finished ones get padding."""
        logprobs = torch.log_softmax(logits.float(), dim=-1)
        best = logprobs.argmax(-1).tolist()
        tokens = []
        for n, row in enumerate(rows):
            if row.done:
                tokens.append(self._eos[0])
                continue
            token = best[n]
            if row.evidence is not None and row.state is not None:
                allowed = list(row.evidence.allowed(row.state))
                if row.evidence.may_end(row.state) or not allowed:
                    allowed += self._eos
                at = torch.tensor(allowed, device=logits.device)
                token = allowed[int(logprobs[n, at].argmax())]
            row.take(token, float(logprobs[n, token]), elapsed_s, token in self._eos)
            tokens.append(token)
        return tokens

    def _text(self, row: _Row) -> str:
        tokens = [token for token in row.tokens if token not in self._eos]
        return str(self._base.tokenizer.decode(tokens, skip_special_tokens=True)).strip()

    def _finish(self, row: _Row) -> Generation:
        text, span = self._text(row), None
        if row.evidence is not None and row.state is not None:
            span = row.evidence.span(row.state)
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
        self.done = ends or len(self.tokens) >= self.max_tokens


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
