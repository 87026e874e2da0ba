"""Wrap what internalizes and what generates, so that quotations are found rather than decoded."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import zip_longest

from hybridqa.protocols import Generation, Generator, Internalizer, Locator, Look, Prompt
from hybridqa.stores.peft_folder import adapter_id, document_origin
from hybridqa.stores.places import tensors_of
from hybridqa.types import Chunk, Document, Internalized, Place, Places


class LocatingInternalizer:
    """An `Internalizer` whose adapters have places, too."""

    def __init__(self, internalizer: Internalizer, locator: Locator) -> None:
        """Wire the pieces.

        Args:
            internalizer: Makes the adapters.
            locator: Keeps the places.
        """
        self.name = internalizer.name
        self._internalizer, self._locator = internalizer, locator
        settings = f"{internalizer.fingerprint}|{locator.fingerprint}"
        self.fingerprint = hashlib.sha256(settings.encode()).hexdigest()

    def internalize(self, document: Document, chunks: Sequence[Chunk]) -> Internalized:
        """Return an adapter with places; see `protocols.Internalizer`."""
        made = self._internalizer.internalize(document, chunks)
        began = time.perf_counter()
        adapter = replace(made.adapter, places=self._locator.keep(chunks))
        origin = document_origin(document.id, document.content_hash)
        own = adapter_id(adapter.layers, adapter.model_fingerprint, origin, tensors_of(adapter))
        seconds = made.seconds + time.perf_counter() - began
        return replace(made, adapter=replace(adapter, id=own), seconds=seconds)


class LocatingGenerator:
    """A `Generator` that looks for an answer where a prompt lets it; no token is then generated."""

    def __init__(self, generator: Generator, locator: Locator) -> None:
        """Wire the pieces.

        Args:
            generator: Answers all other prompts, and those whose places another locator kept.
            locator: Finds the answers.
        """
        self._generator, self._locator = generator, locator

    @property
    def model_fingerprint(self) -> str:
        return self._generator.model_fingerprint

    def generate(self, prompts: Sequence[Prompt]) -> list[Generation]:
        """Return one generation per prompt, in order; see `protocols.Generator`."""
        located = self._located(prompts)
        pairs = list(zip(prompts, located, strict=True))
        rest = iter(self._generator.generate([prompt for prompt, found in pairs if not found]))
        return [found or next(rest) for found in located]

    def score(self, prompts: Sequence[Prompt], answers: Sequence[str]) -> list[float]:
        """Return the likelihood of each answer after its prompt; see `protocols.Generator`."""
        return self._generator.score(prompts, answers)

    def stream(self, prompt: Prompt) -> Iterator[str]:
        """Yield the answer's text as it grows; what is found comes at once."""
        (found,) = self._located([prompt])
        if found:
            return iter([found.text])
        return self._generator.stream(prompt)

    def forget(self, realm: str) -> None:
        self._generator.forget(realm)

    def _located(self, prompts: Sequence[Prompt]) -> list[Generation | None]:
        """Return the likeliest places as answers; `None` where the model must generate one."""
        began = time.perf_counter()
        looks = [self._looks(prompt) for prompt in prompts]
        found = iter(self._locator.locate([look for each in looks for look in each]))
        places = [[next(found) for _ in each] for each in looks]
        seconds = time.perf_counter() - began
        return [_answer(*each, seconds) for each in zip(prompts, places, strict=True)]

    def _looks(self, prompt: Prompt) -> list[Look]:
        """Return where an answer is looked for: in all texts, or else in none."""
        texts: list[Places | str] = []
        if prompt.locate is not None:
            for text, places in zip_longest(prompt.quote_from or (), prompt.places):
                if places and places.locator == self._locator.fingerprint:
                    texts.append(places)
                elif text in prompt.passages:
                    texts.append(text)
                else:  # it is not for reading, neither here nor by the model
                    return []
        return [Look(prompt.question, text) for text in texts]


def _answer(prompt: Prompt, places: Sequence[Place | None], seconds: float) -> Generation | None:
    """Return the likeliest place, one for each text, as an answer."""
    found = [(n, place) for n, place in enumerate(places) if place]
    if not found:
        return None
    number, place = max(found, key=lambda each: each[1].odds)
    assert prompt.quote_from is not None
    assert prompt.locate is not None
    if place.share < prompt.locate:
        return None
    return Generation(
        text=prompt.quote_from[number][place.start : place.end],
        token_ids=(),
        logprobs=(math.log(max(place.share, 1e-12)),),
        span=(number, place.start, place.end),
        located=True,
        abstained=False,
        prompt_tokens=0,
        first_token_s=seconds,
        seconds=seconds,
    )
