"""A judge on this machine: our own model, held to the JSON that RAGAS asks for by a grammar.

llguidance says which tokens may come next; the rest is greedy decoding. Texts and lists have
limits, and past a number of tokens whatever can be closed is closed, so that any model, however
small, always ends with JSON that parses. Whether it then means anything is another matter.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from hybridqa.errors import InputError
from hybridqa.models.base import BaseModel
from hybridqa.models.generator import TorchGenerator
from hybridqa.models.lora import worn
from hybridqa.protocols import Prompt

if TYPE_CHECKING:
    from transformers import DynamicCache

_JUDGES_FROM = 3_000_000_000
"""Parameters; with fewer a model is plumbing, not a judge."""
_TEMPERATURE = 0.7
_MAX_ITEMS, _MAX_CHARS = 8, 300
"""Of a list and of a text in what it returns."""
_CLOSING_TOKENS = 128
"""Room kept for closing what is open when `max_tokens` are used up."""
_RATINGS: Mapping[str, list[int]] = {"rating": [0, 1, 2]}
"""RAGAS's prompts ask for these; any other whole number that they ask for is 0 or 1."""


class LocalJudge:
    """A `judging.Judge` on a loaded model; it asks one thing at a time."""

    endpoint = "local"
    concurrency = 1

    def __init__(self, base: BaseModel, max_tokens: int = 512) -> None:
        """Wire the pieces.

        Args:
            base: Shared with whoever else uses it; its lock is held token by token.
            max_tokens: After which a reply is brought to an end.
        """
        self._base, self._max_tokens = base, max_tokens
        self.name = base.name
        self.plumbing = base.model.num_parameters() < _JUDGES_FROM

    def check(self) -> None:
        """Make sure that the grammar fits the model.

        Raises:
            InputError: llguidance is not installed, or cannot read the model's tokenizer.
        """
        _ = self._constrained

    @asynccontextmanager
    async def session(self, seed: int | None) -> AsyncIterator[Any]:
        """Lend it as RAGAS's language model; see `judging.Judge`."""
        yield _Session(self._constrained, seed)

    @cached_property
    def _constrained(self) -> Constrained:
        return Constrained(self._base, self._max_tokens)


class Constrained:
    """Prompt and JSON schema in, JSON out."""

    def __init__(self, base: BaseModel, max_tokens: int) -> None:
        try:
            import llguidance
            from llguidance.hf import from_tokenizer
        except ImportError as exc:
            raise InputError(
                "A local judge needs llguidance, which is not installed. Install it with "
                "`pip install 'hybridqa[eval]'`, or name an endpoint as judge."
            ) from exc
        self._base, self._max_tokens = base, max_tokens
        self._llguidance: Any = llguidance
        self._generator = TorchGenerator(base)
        try:
            self._tokens: Any = from_tokenizer(
                base.tokenizer, n_vocab=base.model.get_output_embeddings().weight.shape[0]
            )
        except ValueError as exc:
            raise InputError(
                f"The model `{base.name}` cannot be a judge: its tokenizer has no form that "
                f"llguidance reads ({exc}). Choose another model, or name an endpoint as judge."
            ) from exc
        closing = (self._tokens.greedy_tokenize(mark) for mark in ('"', "]", "}"))
        self._closing = [ids[0] for ids in closing if len(ids) == 1]

    def generate(self, prompt: str, schema: Mapping[str, Any], rng: torch.Generator | None) -> str:
        """Return JSON that fits a bounded schema.

        Args:
            prompt: The user's turn.
            schema: As `bounded` returns it.
            rng: Draws the tokens at temperature 0.7; `None` takes the best one each time.

        Raises:
            QuestionError: The prompt does not fit the model's context.
            ValueError: llguidance cannot make a grammar of the schema.
        """
        from transformers import DynamicCache

        room = self._max_tokens + _CLOSING_TOKENS
        new = self._generator.prompt_ids(Prompt(question=prompt, max_tokens=room))
        cache = DynamicCache(config=self._base.model.config)
        matcher = self._matcher(schema)
        said: list[int] = []
        while not matcher.is_stopped():
            allowed = np.frombuffer(matcher.compute_logit_bias(), dtype=np.uint8) > 0
            closing = len(said) >= self._max_tokens
            read = partial(self._next, new, cache, allowed, rng, closing)
            token = self._base.lock.run(read)
            matcher.consume_token(token)
            new = [token]
            if not matcher.is_stopped():
                new += (forced := matcher.compute_ff_tokens())  # such as the keys
                matcher.consume_tokens(forced)
            said += new
        if matcher.is_error():
            raise ValueError(f"llguidance: {matcher.get_error()}")
        if said and said[-1] == self._tokens.eos_token:
            said.pop()
        return bytes(self._tokens.decode_bytes(said)).decode()

    def _next(
        self,
        new: Sequence[int],
        cache: DynamicCache,
        allowed: Any,
        rng: torch.Generator | None,
        closing: bool,
    ) -> int:
        with torch.inference_mode(), worn(self._base, {}) as model:
            logits = model(
                input_ids=torch.tensor([new], device=self._base.device),
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            ).logits[0, -1]
            return self._choose(logits, allowed, rng, closing)

    def _matcher(self, schema: Mapping[str, Any]) -> Any:
        options = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
        grammar = self._llguidance.LLMatcher.grammar_from_json_schema(
            dict(schema), defaults=options
        )
        return self._llguidance.LLMatcher(self._tokens, grammar)

    def _choose(
        self, logits: Tensor, allowed: Any, rng: torch.Generator | None, closing: bool
    ) -> int:
        if closing:
            for token in self._closing:
                if allowed[token]:
                    return token
        mask = torch.from_numpy(allowed).to(logits.device)
        scores = logits.float().masked_fill(~mask, -torch.inf)
        if rng is None:
            return int(scores.argmax())
        shares = torch.softmax(scores / _TEMPERATURE, dim=-1)
        return int(torch.multinomial(shares.cpu(), 1, generator=rng))


def bounded(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return a JSON schema whose every text, list and number is bounded."""
    bounds: dict[str, Any] = {}
    match schema.get("type"):
        case "string":
            bounds = {"minLength": 1, "maxLength": _MAX_CHARS}
        case "array":
            bounds = {"maxItems": _MAX_ITEMS, "items": bounded(schema["items"])}
        case "integer":
            bounds = {"enum": [0, 1]}
        case "object":
            fields = {name: bounded(field) for name, field in schema["properties"].items()}
            for name in fields.keys() & _RATINGS.keys():
                fields[name]["enum"] = _RATINGS[name]
            lists = [field for field in fields.values() if field.get("type") == "array"]
            if len(lists) == 1:
                lists[0]["minItems"] = 1  # of several (true, false, missing) any may be empty
            bounds = {"properties": fields, "additionalProperties": False}
    if "$defs" in schema:
        bounds["$defs"] = {name: bounded(kind) for name, kind in schema["$defs"].items()}
    return {**schema, **bounds}


class _Session:
    """What RAGAS asks."""

    def __init__(self, constrained: Constrained, seed: int | None) -> None:
        self._constrained = constrained
        self._rng = None if seed is None else torch.Generator().manual_seed(seed)
        self._known: dict[str, str] = {}

    async def agenerate(self, prompt: str, response_model: Any) -> Any:
        """Return an instance of the response model; the same prompt always gets the best one."""
        schema = bounded(response_model.model_json_schema())
        key = f"{schema} {prompt}"
        if (text := self._known.get(key)) is None:
            text = await asyncio.to_thread(self._constrained.generate, prompt, schema, self._rng)
            if self._rng is None:  # some metrics ask the same thing three times
                self._known[key] = text
        return response_model.model_validate_json(text)
