"""What the experiments share: a model, an internalizer, and what each arm reads and wears."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

import torch

from hybridqa.config import Config
from hybridqa.engines.prompts import BY_PLACES, bearing
from hybridqa.errors import DocumentTooLongError, InputError, InternalizeError
from hybridqa.eval.arms import ArmName, parse_arms
from hybridqa.eval.asking import batches, generated
from hybridqa.eval.machine import machine
from hybridqa.eval.speed.storage import adapter_bytes
from hybridqa.internalize.compress import nearest_share, take_shares
from hybridqa.models.places import part
from hybridqa.protocols import Generation, Internalizer, Prompt
from hybridqa.types import Adapter, Document, Hit, Internalized, Places
from hybridqa.wiring import HybridQA

OpenHome = Callable[[Path, Config], HybridQA]
"""Opens a home directory; tests put fakes into it."""

_BATCH = 16

Name = TypeVar("Name", bound=StrEnum)


class Wear(StrEnum):
    """How much of an adapter is worn."""

    WHOLE = "whole"
    """All of it: nothing is searched for."""
    PART = "part"
    """As the engine does: the share of the passage that the index finds for the question."""


class Refused(StrEnum):
    """Why something could not be measured."""

    TOO_LONG = "too-long"
    """The document is more than the internalizer takes."""
    WINDOW = "beyond-window"
    """The prompt does not fit the model's context."""
    FAILED = "failed"
    """No adapter could be made, or the device's memory did not suffice."""


@dataclass(frozen=True)
class Refusal:
    """Stands where an adapter or an answer would."""

    kind: Refused
    reason: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Made:
    """A document that was internalized."""

    document: Document
    internalized: Internalized

    @property
    def under(self) -> tuple[Adapter, ...]:
        """What lies under its adapter."""
        task = self.internalized.task_adapter
        return (task,) if task else ()

    def as_dict(self) -> dict[str, Any]:
        """Return what is told of it."""
        made = self.internalized
        return {
            "adapter_bytes": adapter_bytes(made.adapter),
            "rank": made.rank,
            "energy": made.energy,
            "shares": len(made.shares),
            "seconds": made.seconds,
        }


def configured(qa: HybridQA) -> Internalizer:
    """Return the internalizer of the config.

    Raises:
        InputError: There is none.
    """
    found = qa.internalizer()
    if found is None:
        raise no_internalizer()
    return found


def no_internalizer() -> InputError:
    """Return the error that there is nothing to measure."""
    return InputError(
        "The config says `internalize: internalizer: none`, but this measures adapters. Set it to "
        "`associative` or another internalizer."
    )


class Lab:
    """Wraps a home that holds nothing else."""

    def __init__(self, qa: HybridQA, wear: Wear = Wear.WHOLE, indexed: bool = False) -> None:
        """Keep the arguments.

        Args:
            qa: The home.
            wear: How much of an adapter is worn.
            indexed: Whether documents are searched, whatever is worn of them.
        """
        self.qa, self.wear, self._indexed = qa, wear, indexed

    @property
    def internalizer(self) -> Internalizer:
        """The configured one.

        Raises:
            InputError: There is none.
        """
        return configured(self.qa)

    def internalize(self, document: Document) -> Made | Refusal:
        """Return a document's adapter, or why there is none."""
        try:
            made = self.internalizer.internalize(document, self.qa.chunker.chunk(document))
        except DocumentTooLongError as exc:
            return Refusal(Refused.TOO_LONG, str(exc))
        except InternalizeError as exc:
            return Refusal(Refused.FAILED, str(exc))
        except torch.OutOfMemoryError as exc:
            return Refusal(Refused.FAILED, _first_line(exc))
        if self._indexed or (self.wear is Wear.PART and len(made.shares) > 1):
            self.qa.ingestor.ingest(document, None)  # to be searched
        return Made(document=document, internalized=made)

    def worn(self, made: Made, question: str) -> tuple[Adapter, ...]:
        """Return what is worn to answer a question from a document: task adapter, then its own."""
        adapter, shares = made.internalized.adapter, made.internalized.shares
        if found := self._found(made, question, 1):
            chunk = found[0].chunk
            number = nearest_share(shares, chunk.start, chunk.end)
            adapter = take_shares(adapter, [number], len(shares))
        return (*made.under, adapter)

    @property
    def reading(self) -> tuple[Adapter, ...]:
        """What is worn without a document's adapter."""
        return (self.qa.reader,) if self.qa.reader else ()

    def wearing(self, made: Made, question: str) -> Prompt:
        """Ask a document's adapter; the text is not in the prompt."""
        return self._prompt(question, self.worn(made, question))

    def bearing(self, made: Made, question: str) -> Prompt:
        """Do as `wearing`, but only if the document, which is indexed, bears on the question.

        Raises:
            InputError: Nothing is kept beside the adapter that could tell.
        """
        found = self.qa.retriever.search(question, self.qa.config.answer.hits, [made.document.id])
        likely = bearing(
            _kept(made, found, "tells whether it bears on a question", "--relevant"),
            max(hit.similarity for hit in found),
            self.qa.policy.thresholds.min_relevance,
        )
        return replace(self.wearing(made, question), relevance=likely)

    def quoting(self, made: Made, question: str) -> Prompt:
        """Ask for a quotation, which the locator finds in what is kept beside the adapter.

        Raises:
            InputError: Nothing is kept there.
        """
        found = self._found(made, question, self.qa.config.answer.hits)
        places = _kept(made, found, "could be quoted", "--quote")
        return replace(
            self.wearing(made, question),
            quote_from=(made.document.text,),
            rounds=(BY_PLACES,),
            places=(places,),
        )

    def alone(self, question: str) -> Prompt:
        """Ask the model without any document."""
        return self._prompt(question, self.reading)

    def bare(self, question: str, made: Made) -> Prompt:
        """Ask with what lies under a document's adapter, but without the adapter."""
        return self._prompt(question, made.under)

    def reads(self, question: str, document: Document) -> Prompt:
        """Ask with the whole document in the prompt."""
        return self._prompt(question, self.reading, (document.text,))

    def answers(self, prompts: Sequence[Prompt | Refusal]) -> list[Generation | Refusal]:
        """Do as `ask`; a refusal stays what it is."""
        made = iter(self.ask([prompt for prompt in prompts if isinstance(prompt, Prompt)]))
        return [each if isinstance(each, Refusal) else next(made) for each in prompts]

    def ask(self, prompts: Sequence[Prompt]) -> list[Generation | Refusal]:
        """Return one answer per prompt, in order, or why there is none."""
        lengths = [len(p.question) + sum(map(len, p.passages)) for p in prompts]
        answers: dict[int, Generation | Refusal] = {}
        for batch in batches(lengths, _BATCH):
            answers.update(zip(batch, self._asked([prompts[n] for n in batch]), strict=True))
        return [answers[n] for n in range(len(prompts))]

    def about(self) -> dict[str, Any]:
        """Return which models are measured, with what config, and where."""
        base, internalizer = self.qa.base, self.internalizer
        return {
            "model": {
                "name": base.name,
                "fingerprint": base.fingerprint,
                "dtype": str(base.dtype).removeprefix("torch."),
                "reader": self.qa.reader.id if self.qa.reader else None,
                "internalizer": internalizer.name,
                "internalizer_fingerprint": internalizer.fingerprint,
                "hypernetwork": self.qa.config.internalize.hypernetwork,
            },
            "machine": machine(str(base.device)),
        }

    def _found(self, made: Made, question: str, count: int) -> list[Hit] | None:
        """Search a document for what bears on a question; `None` where all of it is worn."""
        if self.wear is Wear.WHOLE or len(made.internalized.shares) == 1:
            return None
        return self.qa.retriever.search(question, count, [made.document.id])

    def _prompt(
        self, question: str, adapters: Sequence[Adapter], passages: Sequence[str] = ()
    ) -> Prompt:
        return Prompt(
            question=question,
            passages=passages,
            adapters=adapters,
            max_tokens=self.qa.config.answer.max_tokens,
        )

    def _asked(self, prompts: Sequence[Prompt]) -> list[Generation | Refusal]:
        try:
            made = generated(self.qa.generator, prompts)
        except torch.OutOfMemoryError as exc:
            return [Refusal(Refused.FAILED, _first_line(exc))] * len(prompts)
        return [Refusal(Refused.WINDOW, each) if isinstance(each, str) else each for each in made]


def _kept(made: Made, found: Sequence[Hit] | None, what: str, option: str) -> Places:
    """Return what is kept of the parts that were found of a document, or of all of it.

    Raises:
        InputError: Nothing is kept that does what an option asks for.
    """
    places = made.internalized.adapter.places
    if places is None:
        raise InputError(
            "The config says `internalize: locator: null`, so nothing is kept of a text that "
            f"{what}. Set it to `embedded`, or leave out `{option}`."
        )
    if found is None:
        return places
    return part(places, [(hit.chunk.start, hit.chunk.end) for hit in found])


def answer_of(made: Generation) -> str:
    """Return an answer in one line; an abstention is empty."""
    return "" if made.abstained else " ".join(made.text.split())


def told(about: dict[str, Any]) -> str:
    """Return in a few words what `Lab.about` says, for a caption."""
    model, at = about["model"], about["machine"]
    named = (
        f"{model['name']} ({model['dtype']}), {model['internalizer']} internalizer "
        f"{model['internalizer_fingerprint'][:12]}, on {at['device']}"
    )
    return f"{named}, commit {at['commit']}" if at.get("commit") else named


def chosen_arms(names: Sequence[str], offered: Sequence[ArmName]) -> tuple[ArmName, ...]:
    """Return the named arms, each once, in the order offered.

    Raises:
        InputError: There is no such arm here, or none is named.
    """
    chosen = parse_arms(names)
    for arm in chosen:
        if arm not in offered:
            raise InputError(
                f"The arm `{arm}` has no part in this. Name some of: {', '.join(offered)}."
            )
    return tuple(arm for arm in offered if arm in chosen)


def one_of(kind: type[Name], name: str, what: str) -> Name:
    """Return the member of that name.

    Raises:
        InputError: There is none.
    """
    try:
        return kind(name)
    except ValueError as exc:
        known = ", ".join(f"`{each}`" for each in kind)
        raise InputError(f"There is no {what} `{name}`. Use one of {known}.") from exc


def at_least(what: str, value: int, least: int) -> None:
    """See that a number is large enough.

    Raises:
        InputError: It is not.
    """
    if value < least:
        raise InputError(f"The {what} must be at least {least}, got {value}.")


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]
