"""Mutate, then ask: under load, no answer is ever older than the text it speaks of."""

import re
import threading
import time
from collections.abc import Sequence
from typing import Any

import pytest

from hybridqa.errors import NoLiveAdapterError, StaleDocumentError
from hybridqa.protocols import Generation, Prompt
from hybridqa.stores.catalog import Catalog
from hybridqa.testing import FakeGenerator, FakeInternalizer, FakeSystem
from hybridqa.types import Answer, Arm, Document, DocumentRecord, Style

VERSIONS = 25
ROUTES = [
    (None, Style.QUOTE),
    (None, Style.FREE),
    (Arm.ADAPTER, Style.FREE),
    (Arm.RETRIEVAL, Style.QUOTE),
    (Arm.BOTH, Style.FREE),
]
"""What the asking threads ask for. In free style the adapter's own words are the answer."""


def gate(version: int) -> Document:
    rain = "Rain fell on the old town for days. " * 8
    text = f"{'So. ' * (version % 3)}The gate code is oak{version}. {rain}"
    return Document(id="gate.md", text=text, title="Gate manual", source="/docs/gate.md")


class Watching(FakeGenerator):
    """Notes, per thread, the newest version that was published when generation ended.

    What is returned after that moment must not be older.
    """

    def __init__(self) -> None:
        super().__init__()
        self.published = 0
        self.local = threading.local()

    def generate(self, prompts: Sequence[Prompt]) -> list[Generation]:
        generations = super().generate(prompts)
        time.sleep(0.01)  # Here documents change.
        self.local.newest = self.published
        return generations


class Telling:
    """A catalog that tells of each version as soon as it is published."""

    def __init__(self, inner: Catalog, generator: Watching) -> None:
        self._inner, self._generator = inner, generator

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def commit(self, record: DocumentRecord) -> list[str]:
        retired = self._inner.commit(record)
        self._generator.published = version_in(record.document.text)
        return retired


def version_in(text: str) -> int:
    found = re.search(r"oak(\d+)", text)
    return int(found[1]) if found else -1


def fault(answer: Answer, newest: int) -> str | None:
    """Return what is wrong with an answer given when `newest` had been published."""
    version = version_in(answer.text)
    if version < newest:
        return f"{answer.arm} answered {answer.text!r} after {newest} was published"
    document = gate(version)
    if answer.adapter and answer.adapter.content_hash != document.content_hash:
        return f"version {version} from the adapter of another text"
    for citation in answer.citations:
        if citation.quote != document.text[citation.start : citation.end]:
            return f"version {version} cites {citation}"
    return None


def test_no_answer_is_older_than_its_document(system: FakeSystem) -> None:
    generator = system.generator = Watching()
    answerer = system.answerer()
    system.catalog = Telling(system.catalog, generator)  # type: ignore[assignment]
    ingestor = system.ingestor()
    ingestor.ingest(gate(0), FakeInternalizer())
    faults: list[str] = []
    arms: list[Arm] = []
    done = threading.Event()

    def ask(arm: Arm | None, style: Style) -> None:
        while not done.is_set():
            try:
                answer = answerer.ask("What is the gate code?", arm, style=style)
            except (NoLiveAdapterError, StaleDocumentError):
                continue  # no answer at all: asked between text and adapter, or overtaken
            except Exception as exc:
                faults.append(repr(exc))
                return
            arms.append(answer.arm)
            if told := fault(answer, generator.local.newest):
                faults.append(told)

    askers = [threading.Thread(target=ask, args=route) for route in ROUTES]
    for asker in askers:
        asker.start()
    try:
        for version in range(1, VERSIONS):
            ingestor.ingest(gate(version), FakeInternalizer())
            time.sleep(0.01)
    finally:
        done.set()
        for asker in askers:
            asker.join(timeout=60)

    assert faults == []
    assert {Arm.ADAPTER, Arm.RETRIEVAL, Arm.BOTH} <= set(arms)
    assert len(arms) > VERSIONS


@pytest.mark.parametrize(("arm", "style"), ROUTES)
def test_the_next_answer_knows_the_change(
    system: FakeSystem, arm: Arm | None, style: Style
) -> None:
    answerer = system.answerer()
    for version in range(3):
        system.ingestor().ingest(gate(version), FakeInternalizer())

        answer = answerer.ask("What is the gate code?", arm, style=style)

        assert fault(answer, newest=version) is None
