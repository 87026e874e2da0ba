"""Prompt in, text out: greedy decoding in batches whose requests wear different adapters."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Sequence
from functools import cached_property, lru_cache, partial
from itertools import accumulate

import torch

from hybridqa.errors import AdapterMismatchError, QuestionError
from hybridqa.models.base import BaseModel
from hybridqa.models.decoding import Batch, Row, keeps_all
from hybridqa.models.prefixes import Prefix, PrefixCache, key_of
from hybridqa.models.quote import Evidence, Vocabulary
from hybridqa.models.turns import Turns
from hybridqa.models.windows import begun, groups, known_beginnings
from hybridqa.protocols import Generation, Judgement, Prompt

ABSTENTION = "The text does not say."
"""What a reader answers where the passages bear no answer; never shown as an answer."""


class TorchGenerator:
    """A `Generator` on a transformers model. Thread-safe."""

    def __init__(
        self, base: BaseModel, stop_tokens: Sequence[int] | None = None, prefix_bytes: int = 0
    ) -> None:
        """Wire the pieces.

        Args:
            base: The frozen model.
            stop_tokens: That end an answer; by default the model's own. Without any, every answer
                has `max_tokens` tokens.
            prefix_bytes: Keys and values kept of passages and prompts that were read.
        """
        self._base = base
        self._vocabulary = Vocabulary.of(base.tokenizer)
        self._evidence = lru_cache(maxsize=64)(self._index_evidence)
        self._eos = _eos(base) if stop_tokens is None else list(stop_tokens)
        self.prefixes = PrefixCache(prefix_bytes)
        self._context = int(getattr(base.model.config, "max_position_embeddings", 1 << 30))

    @property
    def model_fingerprint(self) -> str:
        return self._base.fingerprint

    @property
    def turns(self) -> Turns:
        """Those of the model."""
        return self._base.lock

    def generate(self, prompts: Sequence[Prompt]) -> list[Generation]:
        """Return one generation per prompt, in order; see `protocols.Generator`."""
        if not prompts:
            return []
        run = self._base.lock.run
        rows = self.rows(prompts)
        batch = run(lambda: self.batch(rows, self.known(rows)))
        while not batch.done:
            run(batch.step)
        return [self.finish(row) for row in rows]

    def score(self, prompts: Sequence[Prompt], answers: Sequence[str]) -> list[float]:
        """Return the likelihood of each answer after its prompt; see `protocols.Generator`."""
        if not prompts:
            return []
        rows = self.rows(prompts, pools=False)
        return self._base.lock.run(lambda: self.judged(rows, answers, self.known(rows)))

    def judged(
        self, rows: Sequence[Row], answers: Sequence[str], known: Sequence[Prefix | None]
    ) -> list[float]:
        """Return the likelihood of each answer after a new row's prompt; what was read is kept.

        An answer that is judged badly is often followed by one from the same passage and others.
        Call it in turns: by `turns.run`.
        """
        targets = [self._base.plain_ids(answer) + self._eos[:1] for answer in answers]
        for row, target in zip(rows, targets, strict=True):
            row.prompt += target
        batch = self.batch(rows, known)
        logprobs = batch.read(keep=max(map(len, targets)) + 1)
        self.keep(batch)
        scores = []
        for found, target in zip(logprobs, targets, strict=True):
            # Padding is on the left: the answer's last token is predicted before the last place.
            wanted = torch.tensor(target, device=found.device)[:, None]
            predicted = found[-len(target) - 1 : -1].gather(1, wanted)
            scores.append(float(predicted.mean().exp()))
        return scores

    def judge(self, prompts: Sequence[Prompt], answers: Sequence[Sequence[str]]) -> list[Judgement]:
        """Return how likely each of a prompt's answers is; see `protocols.Generator`."""
        tokens = [[self._base.plain_ids(text) + self._eos[:1] for text in each] for each in answers]
        if not self._keeps_all:  # with a sliding window, answers cannot be read beside each other
            return [self._one_by_one(*each) for each in zip(prompts, answers, tokens, strict=True)]
        rows, run = self.rows(prompts, pools=False), self._base.lock.run
        known = run(partial(self.known, rows))
        found: dict[int, Sequence[float]] = {}
        for group in groups([row.prompt for row in rows], known):
            likely = run(partial(self._beside, rows, tokens, known, group))
            found.update(zip(group, likely, strict=True))
        return [
            Judgement(found[n], len(row.prompt) + sum(map(len, tokens[n])))
            for n, row in enumerate(rows)
        ]

    def _one_by_one(
        self, prompt: Prompt, answers: Sequence[str], tokens: Sequence[Sequence[int]]
    ) -> Judgement:
        scores = self.score([prompt] * len(answers), answers)
        return Judgement(
            [
                math.log(max(score, sys.float_info.min)) * len(ids)
                for score, ids in zip(scores, tokens, strict=True)
            ],
            len(self.prompt_ids(prompt)) * len(answers) + sum(map(len, tokens)),
        )

    def _beside(
        self,
        rows: Sequence[Row],
        tokens: Sequence[Sequence[Sequence[int]]],
        known: Sequence[Prefix | None],
        group: Sequence[int],
    ) -> list[list[float]]:
        batch = self.batch([rows[n] for n in group], [known[n] for n in group])
        found = batch.judge([tokens[n] for n in group])
        self.keep(batch)
        return found

    def stream(self, prompt: Prompt) -> Iterator[str]:
        """Yield the answer's text as it grows; the pieces join to the generation's text."""
        (row,) = self.rows([prompt])
        run, shown = self._base.lock.run, ""
        batch = run(lambda: self.batch([row], self.known([row])))
        while not row.done:
            run(batch.step)
            text = self._text(row)
            # A trailing replacement character is half of a multi-byte character.
            if text.startswith(shown) and not text.endswith("\ufffd"):
                # An abstention is no answer: hold text back while it may become one.
                if ABSTENTION.startswith(text):
                    continue
                yield text[len(shown) :]
                shown = text
        final = self.finish(row)
        if final.text.startswith(shown):
            yield final.text[len(shown) :]

    def prompt_ids(self, prompt: Prompt) -> list[int]:
        """Return the tokens of the chat turn: passages, blank line, question.

        Raises:
            QuestionError: The prompt and its answer do not fit the model's context.
        """
        return [token for piece in self._pieces(prompt) for token in piece]

    def _pieces(self, prompt: Prompt) -> list[list[int]]:
        """Return the tokens of the prompt's beginning, of each passage, and from the question on.

        One piece only, if the chat template changes what is said.
        """
        tokenizer = self._base.tokenizer
        special = special_strings(tokenizer)
        said = [neutralize(f"{passage}\n\n", special) for passage in prompt.passages]
        content = "".join(said) + neutralize(prompt.question, special)
        bare = not tokenizer.chat_template
        if bare:
            text = f"{content}\n\n"
        else:
            text = str(
                tokenizer.apply_chat_template(
                    [{"role": "user", "content": content}],
                    add_generation_prompt=True,
                    tokenize=False,
                )
            )
        begin = text.find(content)
        lengths = map(len, said)
        cuts = list(accumulate(lengths, initial=begin)) if begin >= 0 else []
        pieces = self._base.chat_pieces(text, cuts, add_special_tokens=bare)
        ids = [token for piece in pieces for token in piece]
        if len(ids) + prompt.max_tokens > self._context:
            raise QuestionError(
                f"The prompt has {len(ids)} tokens (question {len(prompt.question)} characters, "
                f"{len(prompt.passages)} passages), and with {prompt.max_tokens} tokens of answer "
                f"exceeds the model's context of {self._context}. Shorten the question or lower "
                "`answer: passages`."
            )
        return pieces

    def rows(self, prompts: Sequence[Prompt], pools: bool = True) -> list[Row]:
        """Return requests to be decoded, or without `pools` to be judged.

        Raises:
            AdapterMismatchError: As for `generate`, like the next.
            QuestionError: See there.
        """
        written = [prompt.without_places for prompt in prompts]
        self._check_adapters(written)
        return [self._row(prompt, pools) for prompt in written]

    def _row(self, prompt: Prompt, pools: bool) -> Row:
        pieces, windows = self._pieces(prompt), []
        beginning, *passages = pieces[:-1] or [[]]
        apart = any(adapter.passages_apart for adapter in prompt.adapters)
        if len(passages) > 1 and apart and self._keeps_all:
            windows = [beginning + passage for passage in passages]
        evidence = None
        if prompt.quote_from is not None:
            evidence = self._evidence(prompt.realm, tuple(prompt.quote_from))
        ids = [token for piece in pieces for token in piece]
        row = Row(prompt, ids, windows, len(beginning), evidence)
        for expert in prompt.pool if pools else ():
            whole = self.prompt_ids(expert.prompt)
            row.pool.append(Row(expert.prompt, whole, weight=expert.weight, leader=row))
            row.weight -= expert.weight
        return row

    def known(self, rows: Sequence[Row]) -> list[Prefix | None]:
        """Return what is known of the beginnings of new rows' prompts; see `windows`.

        Passages that were not read yet are read. Call it in turns: by `turns.run`.
        """
        return known_beginnings(rows, self.prefixes, self.batch)

    def keep(self, batch: Batch) -> None:
        """Keep what a batch that was just read made of its prompts.

        Not of windows: those are kept one by one, and side by side they are no prompt's beginning.
        """
        if self.prefixes.limit_bytes and batch.joinable:
            for n, row in enumerate(batch.rows):
                if not row.windows:
                    self.prefixes.put(key_of(row.asked), batch.prefix(n))

    @cached_property
    def _keeps_all(self) -> bool:
        """Whether keys and values are kept of all that was read: else windows cannot be joined."""
        from transformers import DynamicCache

        return keeps_all(DynamicCache(config=self._base.model.config))

    def batch(self, rows: Sequence[Row], known: Sequence[Prefix | None] = ()) -> Batch:
        """Return a batch of requests and their pools; `known` are beginnings of their prompts.

        Call it, and what it returns, in turns: by `turns.run`.
        """
        pools = [each for row in rows for each in row.pool]
        every, known = [*rows, *pools], [*(known or [None] * len(rows)), *[None] * len(pools)]
        if pools and self._keeps_all:
            known = begun(every, known, self._laid)
        return self._laid(every, known)

    def _laid(self, rows: Sequence[Row], known: Sequence[Prefix | None]) -> Batch:
        return Batch(self._base, rows, self._eos, known)

    def forget(self, realm: str) -> None:
        """Drop a realm's prompts; of all realms, the few texts that were prepared for quoting."""
        self.prefixes.forget(realm)
        self._evidence.cache_clear()

    def _check_adapters(self, prompts: Sequence[Prompt]) -> None:
        every = [each for p in prompts for each in (p, *(expert.prompt for expert in p.pool))]
        for adapter in {id(a): a for p in every for a in p.adapters}.values():
            if adapter.model_fingerprint != self._base.fingerprint:
                raise AdapterMismatchError(
                    adapter.id, adapter.model_fingerprint, self._base.fingerprint
                )

    def _index_evidence(self, realm: str, texts: tuple[str, ...]) -> Evidence:
        return Evidence(texts, self._vocabulary, whole=(ABSTENTION,))

    def _text(self, row: Row) -> str:
        if row.evidence is not None:
            return row.evidence.text(row.quoted) if row.quoted is not None else ""
        tokens = [token for token in row.tokens if token not in self._eos]
        return str(self._base.tokenizer.decode(tokens, skip_special_tokens=True)).strip()

    def finish(self, row: Row) -> Generation:
        """Return what became of a request that is done."""
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
            prompt_tokens=len(row.prompt) + sum(len(each.prompt) for each in row.pool),
            first_token_s=row.first_token_s,
            seconds=row.seconds,
        )


def _eos(base: BaseModel) -> list[int]:
    config = base.model.generation_config
    eos = config.eos_token_id if config is not None else None
    eos = base.tokenizer.eos_token_id if eos is None else eos
    return [eos] if isinstance(eos, int) else list(eos)


@lru_cache(maxsize=8)
def special_strings(tokenizer: object) -> tuple[str, ...]:
    """Return how a tokenizer's special tokens look in text."""
    added = tokenizer.added_tokens_decoder.values()  # type: ignore[attr-defined]
    return tuple(str(token.content) for token in added if token.special)


def neutralize(content: str, special: Sequence[str]) -> str:
    """Break up special tokens in user text, so that a document cannot end its own turn."""
    for token in special:
        if token in content:
            content = content.replace(token, f"{token[:1]} {token[1:]}")
    return content
