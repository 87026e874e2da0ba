"""Quotations that are found: what the wrapped internalizer and generator add."""

from dataclasses import replace

import pytest

from hybridqa.internalize.locating import LocatingGenerator, LocatingInternalizer
from hybridqa.internalize.locator import TorchLocator
from hybridqa.protocols import Look, Prompt
from hybridqa.testing import FakeGenerator, FakeInternalizer, tiny_locator
from hybridqa.types import Chunk, Document

TEXT = "Tea is at four. The lamp weighs a lot."
DOCUMENT = Document(id="d", text=TEXT, title="D", source="d.md")
CHUNK = Chunk(
    document_id="d", content_hash=DOCUMENT.content_hash, start=0, end=len(TEXT), text=TEXT
)


@pytest.fixture(scope="module")
def locator() -> TorchLocator:
    return tiny_locator()


@pytest.fixture
def generator(locator: TorchLocator) -> LocatingGenerator:
    return LocatingGenerator(FakeGenerator(lambda question, texts: "four"), locator)


def test_adapters_get_places(locator: TorchLocator) -> None:
    plain = FakeInternalizer("model")

    made = LocatingInternalizer(plain, locator).internalize(DOCUMENT, [CHUNK])

    former = plain.internalize(DOCUMENT, [CHUNK])
    assert made.adapter.places is not None
    assert made.adapter.places.locator == locator.fingerprint
    assert made.adapter.id != former.adapter.id
    assert made.adapter.layers.keys() == former.adapter.layers.keys()
    assert LocatingInternalizer(plain, locator).name == plain.name
    assert LocatingInternalizer(plain, locator).fingerprint != plain.fingerprint


def test_what_can_be_found_is_found_and_the_rest_is_generated(
    locator: TorchLocator, generator: LocatingGenerator
) -> None:
    places = locator.keep([CHUNK])
    plain = Prompt(question="When is tea?")
    quoting = Prompt(question="When is tea?", quote_from=(TEXT,), locate=0.0, places=(places,))

    before, found, after = generator.generate([plain, quoting, plain])

    assert (before.text, after.text) == ("four", "four")
    place = locator.locate([Look("When is tea?", places)])[0]
    assert place is not None
    assert found.span == (0, place.start, place.end)
    assert found.text == TEXT[place.start : place.end]
    assert found.confidence == pytest.approx(place.share)
    assert (found.prompt_tokens, found.token_ids, found.abstained) == (0, (), False)
    assert list(generator.stream(quoting)) == [found.text]
    assert "".join(generator.stream(plain)) == "four"


@pytest.mark.parametrize("sure", [0.0, 1.0])
def test_passages_are_read_only_where_nothing_sure_is_found(
    locator: TorchLocator,
    generator: LocatingGenerator,
    sure: float,
) -> None:
    passages = (TEXT, "The kettle is in the cellar, by the stairs.")
    asked = Prompt(question="When?", passages=passages, quote_from=passages, locate=sure)

    (made,) = generator.generate([asked])

    if sure:
        assert (made.text, made.located) == ("four", False)
        return
    chunk = replace(CHUNK, text=passages[1], end=len(passages[1]))
    found = [locator.locate([Look("When?", locator.keep([each]))])[0] for each in (CHUNK, chunk)]
    best = max(range(2), key=lambda n: found[n].odds)  # type: ignore[union-attr]
    assert made.located
    assert made.span is not None
    assert made.span == (best, found[best].start, found[best].end)  # type: ignore[union-attr]
    assert made.text == passages[best][made.span[1] : made.span[2]]
    assert generator.generate([replace(asked, locate=None)])[0].text == "four"


def test_where_nothing_can_be_found_the_model_answers(
    locator: TorchLocator, generator: LocatingGenerator
) -> None:
    nothing = Prompt(question="When?", quote_from=(TEXT,), locate=0.0, places=(locator.keep([]),))
    foreign = Prompt(
        question="When?",
        quote_from=(TEXT,),
        locate=0.0,
        places=(
            LocatingInternalizer(FakeInternalizer("model"), tiny_locator())
            .internalize(DOCUMENT, [CHUNK])
            .adapter.places,
        ),
    )
    locator_of_others = TorchLocator(locator.network, locator._tokenizer, "cd" * 32, locator._lock)
    others = LocatingGenerator(FakeGenerator(lambda question, texts: "four"), locator_of_others)

    assert generator.generate([nothing])[0].text == "four"
    assert others.generate([foreign])[0].text == "four"


def test_a_passage_of_which_something_was_kept_is_not_read(
    locator: TorchLocator, generator: LocatingGenerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    passages = (TEXT, "The kettle is in the cellar, by the stairs.")
    asked = Prompt(question="When?", passages=passages, quote_from=passages, locate=0.0)
    (read,) = generator.generate([asked])
    kept = tuple(locator.keep([replace(CHUNK, text=text, end=len(text))]) for text in passages)
    texts: list[object] = []
    pieces = locator._pieces
    monkeypatch.setattr(locator, "_pieces", lambda text: texts.append(text) or pieces(text))

    for places, unread in (((kept[0],), passages[1:]), (kept, ()), ((None, kept[1]), (TEXT,))):
        texts.clear()
        (made,) = generator.generate([replace(asked, places=places)])
        assert texts == list(unread)
        assert (made.text, made.span) == (read.text, read.span)
        assert made.confidence == pytest.approx(read.confidence)


def test_what_the_model_does_not_read_is_not_read_to_locate(generator: LocatingGenerator) -> None:
    asked = Prompt(question="When?", quote_from=(TEXT,), locate=0.0)

    assert not generator.generate([asked])[0].located
