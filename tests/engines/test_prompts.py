"""What a prompt that wears an adapter may quote, and where it lets look for it."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from hybridqa.engines.prompts import Prompts, Worn, each_worn
from hybridqa.models.places import packed, unpacked
from hybridqa.stores.adapters import AdapterStore
from hybridqa.stores.catalog import Catalog
from hybridqa.testing import commit_document
from hybridqa.types import (
    Adapter,
    AdapterRecord,
    Chunk,
    Document,
    Hit,
    Internalized,
    LoraLayer,
    Places,
    Style,
)

TEXT = "Tea is at four.\n\nSupper is at six."
HALVES = ((0, 15), (17, 33))
PATH = "model.layers.0.mlp.down_proj"
TASK = Adapter("f" * 64, {}, "model")
WORDS = [["Tea", "four"], ["Supper", "six"]]
PLACES = packed(
    [torch.rand(4, 4), torch.rand(4, 4)],
    [(TEXT.index(word), TEXT.index(word) + len(word)) for half in WORDS for word in half],
    [True] * 4,
    [True] * 4,
    "ab" * 32,
)


@pytest.fixture
def adapters(tmp_path: Path) -> Iterator[AdapterStore]:
    catalog = Catalog(tmp_path / "catalog.sqlite")
    (tmp_path / "adapters").mkdir()
    yield AdapterStore(tmp_path / "adapters", catalog, "base")
    catalog.close()


def published(
    adapters: AdapterStore, tmp_path: Path, places: Places | None = PLACES
) -> AdapterRecord:
    document = Document(id="a.md", text=TEXT, title="A", source="a.md")
    catalog = Catalog(tmp_path / "catalog.sqlite")
    commit_document(catalog, document)
    catalog.close()
    layers = {PATH: LoraLayer(torch.ones(2, 8), torch.ones(4, 2))}
    made = Internalized(
        adapter=Adapter("unpublished", layers, "model", places),
        task_adapter=TASK,
        rank=2,
        energy=1.0,
        shares=HALVES,
        seconds=0.1,
    )
    return adapters.publish(made, document, "associative", "network")


def found(record: AdapterRecord, span: tuple[int, int], similarity: float = 0.5) -> Worn:
    """Return an adapter with one hit in its document."""
    chunk = Chunk(
        document_id=record.document_id,
        content_hash=record.content_hash,
        start=span[0],
        end=span[1],
        text=TEXT[slice(*span)],
    )
    return Worn(record, [Hit(chunk=chunk, score=1.0, similarity=similarity)], 0.2)


def test_a_quotation_is_looked_for_in_the_spans_given(
    adapters: AdapterStore, tmp_path: Path
) -> None:
    record = published(adapters, tmp_path)
    prompts = Prompts(adapters, {TASK.id: TASK}, None, 8)

    for number, half in enumerate(HALVES):
        prompt = prompts.worn("When?", found(record, half), Style.QUOTE, TEXT)
        assert prompt.quote_from == (TEXT,)
        (weighed,) = prompt.rounds
        assert weighed.judges == ()
        (places,) = prompt.places
        assert places is not None
        (piece,) = unpacked(places)
        assert [TEXT[a:b] for a, b in piece.spans[1:-1].tolist()] == WORDS[number]


def test_in_free_wording_an_adapter_is_worn_where_its_parts_bear_on_the_question(
    adapters: AdapterStore, tmp_path: Path
) -> None:
    record = published(adapters, tmp_path)
    prompts = Prompts(adapters, {TASK.id: TASK}, None, 8)

    like = prompts.worn("?", found(record, HALVES[1], similarity=0.5), Style.FREE)
    unlike = prompts.worn("?", found(record, HALVES[1], similarity=0.1), Style.FREE)
    (expert,) = prompts.read("?", (TEXT,), Style.FREE, worn=found(record, HALVES[1])).pool

    assert (like.rounds, like.quote_from) == ((), None)
    for asked in (like, unlike, expert.prompt):
        assert asked.adapters[0] is TASK
        assert asked.relevance is not None
        (piece,) = unpacked(*asked.relevance.texts)
        assert [TEXT[a:b] for a, b in piece.spans[1:-1].tolist()] == WORDS[1]
        assert asked.relevance.least == 0.2
    assert like.relevance.logit > unlike.relevance.logit  # type: ignore[union-attr]


def test_an_adapter_without_places_is_worn_for_all_questions(
    adapters: AdapterStore, tmp_path: Path
) -> None:
    worn = found(published(adapters, tmp_path, None), HALVES[0])
    prompts = Prompts(adapters, {TASK.id: TASK}, None, 8)

    assert prompts.worn("?", worn, Style.FREE).relevance is None
    always = replace(worn, record=published(adapters, tmp_path), min_relevance=0.0)
    assert prompts.worn("?", always, Style.FREE).relevance is None
    assert prompts.read("?", (TEXT,), Style.FREE, worn=worn).pool[0].prompt.relevance is None


def test_of_all_hits_those_in_the_document_count(adapters: AdapterStore, tmp_path: Path) -> None:
    record = published(adapters, tmp_path)
    (other,) = found(replace(record, document_id="b.md"), HALVES[0]).hits
    (first,), (second,) = (found(record, half).hits for half in HALVES)

    worn = Worn.by(record, [other, second, first], 0.3)

    assert (worn.number, worn.spans) == (1, [HALVES[1], HALVES[0]])
    assert worn.min_relevance == 0.3
    assert each_worn([record, None], [first, other]) == [Worn(record, [first]), None]


def test_an_adapter_without_places_quotes_by_itself(adapters: AdapterStore, tmp_path: Path) -> None:
    record = published(adapters, tmp_path, None)

    worn = found(record, HALVES[0])
    prompt = Prompts(adapters, {TASK.id: TASK}, None, 8).worn("When?", worn, Style.QUOTE, TEXT)

    assert (prompt.rounds, prompt.places) == ((), ())
    assert prompt.quote_from == (TEXT[:15],)


def test_what_was_kept_of_a_passage_is_found_in_its_own_characters(
    adapters: AdapterStore, tmp_path: Path
) -> None:
    record = published(adapters, tmp_path)
    prompts = Prompts(adapters, {TASK.id: TASK}, None, 8)

    for (start, end), words in zip(HALVES, WORDS, strict=True):
        chunk = Chunk(
            document_id=record.document_id,
            content_hash=record.content_hash,
            start=start,
            end=end,
            text=TEXT[start:end],
        )
        kept = prompts.kept(record, chunk)
        assert kept is not None
        (piece,) = unpacked(kept)
        assert [chunk.text[a:b] for a, b in piece.spans[1:-1].tolist()] == words
        assert prompts.kept(None, chunk) is None
        assert prompts.kept(record, replace(chunk, content_hash="other")) is None
        assert prompts.kept(record, replace(chunk, start=start + 1)) is None


def test_of_a_damaged_adapter_nothing_is_kept(adapters: AdapterStore, tmp_path: Path) -> None:
    record = published(adapters, tmp_path)
    for path in tmp_path.rglob("*.safetensors"):
        path.write_bytes(b"damaged")
    fresh = AdapterStore(adapters.folder, adapters._catalog, "base")
    chunk = Chunk(
        document_id=record.document_id, content_hash=record.content_hash, start=0, end=15, text=""
    )

    assert Prompts(fresh, {TASK.id: TASK}, None, 8).kept(record, chunk) is None


PASSAGES = (TEXT[:15], TEXT[17:], "Nobody knows.")
READER = Adapter("e" * 64, {}, "model")


def test_the_reader_judges_what_is_located(adapters: AdapterStore) -> None:
    prompts = Prompts(adapters, {TASK.id: TASK}, READER, 8, "realm")

    alone, judged = prompts.read("When?", PASSAGES, style=Style.QUOTE).rounds

    assert alone.judges == ()
    assert 0 < alone.sure < 1
    (judge,) = judged.judges
    assert (judge.prompt.passages, judge.prompt.adapters) == (PASSAGES, (READER,))
    assert (judge.texts, judge.prompt.realm) == (None, "realm")
    assert judge.weight > 0
    assert prompts.read("When?", PASSAGES, Style.FREE).rounds == ()


def test_a_model_reads_where_it_is_likely_that_what_it_reads_answers(
    adapters: AdapterStore,
) -> None:
    prompts = Prompts(adapters, {}, None, 8)
    free = prompts.read("When?", PASSAGES, Style.FREE, places=(None, PLACES), min_relevance=0.3)
    either = prompts.read("When?", PASSAGES, Style.EITHER, places=(None, PLACES), min_relevance=0.3)

    assert free.relevance
    assert free.relevance.least == pytest.approx(0.3)
    assert list(free.relevance.texts) == [PASSAGES[0], PLACES, *PASSAGES[2:]]
    assert either.relevance is None  # quotations are weighed against having none
    assert either.instead == free
    assert all(judge.prompt.relevance is None for judge in either.rounds[1].judges)
    assert prompts.read("When?", PASSAGES, Style.QUOTE, min_relevance=0.3).instead is None
    assert prompts.read("When?", PASSAGES, Style.FREE, min_relevance=0.0).relevance is None


def test_adapters_judge_what_is_located_in_their_passages(
    adapters: AdapterStore, tmp_path: Path
) -> None:
    record = published(adapters, tmp_path)
    prompts = Prompts(adapters, {TASK.id: TASK}, READER, 8)
    first, second = (found(record, half) for half in HALVES)
    judging = [first, second, None]

    asked = prompts.read("When?", PASSAGES, style=Style.QUOTE, worn=first, judging=judging)

    reading, bare, one, other = asked.rounds[-1].judges
    assert reading.prompt.adapters == (READER,)
    assert (bare.prompt.adapters, bare.prompt.passages) == ((), ())
    assert bare.texts == {0, 1}
    assert bare.weight < 0 < one.weight == other.weight < reading.weight
    for judge, number in ((one, 0), (other, 1)):
        task, share = judge.prompt.adapters
        assert (task, judge.texts, judge.prompt.passages) == (TASK, {number}, ())
        assert share.layers[PATH].down.shape == (1, 8)


def test_a_damaged_adapter_does_not_judge(adapters: AdapterStore, tmp_path: Path) -> None:
    record = published(adapters, tmp_path)
    for path in tmp_path.rglob("*.safetensors"):
        path.write_bytes(b"damaged")
    fresh = AdapterStore(adapters.folder, adapters._catalog, "base")

    asked = Prompts(fresh, {TASK.id: TASK}, READER, 8).read(
        "When?", PASSAGES, style=Style.QUOTE, judging=[found(record, HALVES[0]), None, None]
    )

    (judge,) = asked.rounds[-1].judges
    assert judge.prompt.adapters == (READER,)
