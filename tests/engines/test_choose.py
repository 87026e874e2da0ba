"""Which passages are read, in which order, and what is spared by what was kept of them."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch

from hybridqa.engines.choose import Chooser
from hybridqa.models.places import packed
from hybridqa.protocols import Look
from hybridqa.testing import FakeSystem
from hybridqa.types import AdapterRecord, Arm, Chunk, Document, Hit, Place, Places, Style
from tests.engines.test_answer import CODE, RAIN, ingest, seen

OWN = packed([torch.rand(4, 4)], [(0, 3), (4, 7)], [True] * 2, [True] * 2, "own")
OTHERS = replace(OWN, locator="another")


class ByWord:
    """A `Locator` that is the surer the more often a text says "code"."""

    fingerprint = "own"

    def __init__(self) -> None:
        self.looks: list[Look] = []

    def keep(self, chunks: Sequence[Chunk]) -> Places:
        raise AssertionError("nothing is taken in here")

    def locate(self, looks: Sequence[Look]) -> list[Sequence[Place]]:
        self.looks += looks
        return [_places(str(look.text)) for look in looks]


def _places(text: str) -> Sequence[Place]:
    if not text:
        return ()
    share = 1 - 0.5 * 0.05 ** text.count("code")
    return (Place(start=0, end=1, share=share, nowhere=1 - share),)


def hit(text: str, similarity: float = 0.5) -> Hit:
    chunk = Chunk(document_id=text, content_hash="h", start=0, end=len(text), text=text)
    return Hit(chunk=chunk, score=1.0, similarity=similarity)


def chosen(hits: Sequence[Hit], most: int = 2) -> list[str]:
    chooser = Chooser(ByWord(), lambda record, chunk: None, most)
    return [each.chunk.text for each in chooser.choose("?", hits, [None] * len(hits))]


def test_what_answers_best_is_read_alone() -> None:
    assert chosen([hit("rain"), hit("code code"), hit("sun")]) == ["code code"]


def test_passages_that_may_answer_as_well_are_read_in_the_order_of_their_likelihood() -> None:
    hits = [hit("rain"), hit("sun", 0.55), hit("snow", 0.45)]

    assert chosen(hits) == ["sun", "rain"]
    assert chosen(hits, most=3) == ["sun", "rain", "snow"]
    assert chosen(hits, most=1) == ["sun"]


def test_where_all_are_alike_the_order_of_the_index_stays() -> None:
    assert chosen([hit("rain"), hit("sun")]) == ["rain", "sun"]


def test_an_empty_passage_and_none_at_all_are_no_trouble() -> None:
    assert chosen([hit(""), hit("rain")]) == ["rain"]
    assert chosen([]) == []


def test_without_a_locator_the_best_of_the_index_are_read() -> None:
    chooser = Chooser(None, lambda record, chunk: None, 2)
    hits = [hit("rain"), hit("code"), hit("sun")]

    assert chooser.choose("?", hits, [None] * 3) == hits[:2]


@pytest.mark.parametrize(("kept", "looked"), [(OWN, OWN), (OTHERS, "rain"), (None, "rain")])
def test_what_this_locator_kept_of_a_passage_is_not_read_again(
    kept: Places | None, looked: Places | str
) -> None:
    locator = ByWord()
    asked: list[AdapterRecord | None] = []

    def of(record: AdapterRecord | None, chunk: Chunk) -> Places | None:
        asked.append(record)
        return kept

    Chooser(locator, of, 2).choose("How?", [hit("rain")], [None])

    assert asked == [None]
    [look] = locator.looks
    assert look.question == "How?"
    assert look.text is looked if isinstance(looked, Places) else look.text == looked


@pytest.mark.parametrize(("style", "count"), [(Style.FREE, 1), (Style.QUOTE, 3)])
def test_in_free_wording_what_hardly_bears_on_the_question_is_not_read(
    system: FakeSystem, style: Style, count: int
) -> None:
    for name, text in {
        "gate.md": f"The gate code is the code walnut, a code. {RAIN}",
        "gates.md": f"What a gate is, and what it is for. {RAIN}",
    }.items():
        ingest(system, Document(id=name, text=text, title=name, source=name), adapter=False)
    system.locator = ByWord()

    answer = system.answerer().ask(CODE, Arm.RETRIEVAL, style=style)

    [prompt] = seen(system)
    assert len(prompt.passages) == count
    assert "walnut" in answer.text
    assert [c.document_id for c in answer.citations] == ["gate.md"]
    assert ("choose" in answer.timings_ms) is (style is Style.FREE)


@pytest.mark.parametrize(("beside", "heard"), [("code " * 9, False), ("moss " * 9, True)])
def test_an_adapter_has_a_say_where_its_document_is_read_first(
    system: FakeSystem, beside: str, heard: bool
) -> None:
    for name, text in {"gate.md": f"{CODE} It is walnut.", "old.md": f"Old {beside}"}.items():
        ingest(system, Document(id=name, text=text, title=name, source=name))
    system.locator = ByWord()

    system.answerer().ask(CODE, Arm.BOTH, style=Style.FREE)

    [prompt] = seen(system)
    assert prompt.passages[0].startswith("What" if heard else "Old")
    assert bool(prompt.pool) is heard
