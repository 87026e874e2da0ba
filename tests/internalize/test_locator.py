"""Locators: what is kept, and what is found in it."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from hybridqa.errors import ModelError
from hybridqa.internalize.locator import Tokenized, TorchLocator, load_encoder, save_locator
from hybridqa.internalize.locator_network import LocatorConfig, LocatorNetwork, span_logits
from hybridqa.models.padding import padded
from hybridqa.models.places import part, unpacked
from hybridqa.protocols import Look
from hybridqa.testing import tiny_encoder, tiny_locator
from hybridqa.types import Chunk, Place, Places

TEXT = "Tea is at 4:15. The lamp weighs 840g, don't drop it."
LONG = "It was lit in a cold room by the sea, and nobody saw it again until the year was over."


@pytest.fixture(scope="module")
def locator() -> TorchLocator:
    return tiny_locator()


def best(locator: TorchLocator, question: str, places: Places) -> Place | None:
    (found,) = locator.locate([Look(question, places)])
    return found[0] if found else None


def chunks(*texts: str) -> list[Chunk]:
    found, start = [], 0
    for text in texts:
        end = start + len(text)
        found.append(Chunk(document_id="d", content_hash="h", start=start, end=end, text=text))
        start = end + 2
    return found


def test_answers_begin_and_end_with_words(locator: TorchLocator) -> None:
    piece = Tokenized(locator._tokenizer, TEXT)

    starts = [
        TEXT[a:].split()[0]
        for (a, _), begins in zip(piece.spans, piece.begins, strict=True)
        if begins
    ]
    ends = [
        TEXT[:b].split()[-1]
        for (_, b), closes in zip(piece.spans, piece.closes, strict=True)
        if closes
    ]
    assert starts[:6] == ["Tea", "is", "at", "4:15.", ":15.", "15."]
    assert "eighs" not in starts
    assert "40g," not in starts
    assert {"Tea", "is", "840g", "840g,"} <= set(ends)
    assert not {"T", "Te", "84"} & set(ends)


def test_what_is_found_is_the_likeliest_span_of_words(locator: TorchLocator) -> None:
    """As an independent reading of the same weights tells it, without anything kept in 8 bits."""
    network, tokenizer = locator.network, locator._tokenizer
    piece, question = Tokenized(tokenizer, TEXT[:30]), "When is tea?"
    asked, asked_mask = padded([locator.question_ids(question)], torch.device("cpu"))
    ids = torch.tensor([[tokenizer.cls_token_id, *piece.ids, tokenizer.sep_token_id]])
    mask = torch.ones_like(ids)
    with torch.no_grad():
        states = network.alone(asked, asked_mask, asked=True)
        kept = network.keep(ids, mask)
        ends, nowhere = network.together(states, asked_mask, kept, mask)
    scores = {
        (piece.spans[i][0], piece.spans[j][1]): float(ends[0, i + 1, 0] + ends[0, j + 1, 1])
        for i in range(len(piece.ids))
        for j in range(i, min(i + 8, len(piece.ids)))
        if piece.begins[i] and piece.closes[j]
    }
    total = torch.tensor([*scores.values(), float(nowhere)]).softmax(0)

    found = best(locator, question, locator.keep(chunks(TEXT[:30])))

    assert found is not None
    assert found.share == pytest.approx(scores_share(scores, total, found), abs=0.02)
    assert found.share == pytest.approx(float(total[:-1].max()), abs=0.02)
    assert found.nowhere == pytest.approx(float(total[-1]), abs=0.02)


def scores_share(scores: dict[tuple[int, int], float], total: torch.Tensor, found: object) -> float:
    spans = list(scores)
    return float(total[spans.index((found.start, found.end))])  # type: ignore[attr-defined]


def test_longer_texts_are_kept_in_pieces_that_cover_them(locator: TorchLocator) -> None:
    both = chunks(LONG, TEXT)

    places = locator.keep(both)

    pieces = list(unpacked(places))
    assert len(pieces) == 3  # 45 tokens each at most; the long text has 67
    text = LONG + "\n\n" + TEXT
    read = [text[a:b] for piece in pieces for a, b in piece.spans[1:-1].tolist()]
    assert "".join(read) == "".join(text.split())
    assert all(len(piece.spans) <= 50 for piece in pieces)
    second = part(places, [(both[1].start, both[1].end)])
    found = best(locator, "When?", second)
    alone = best(locator, "When?", locator.keep(chunks(TEXT)))
    assert found is not None
    assert alone is not None
    shift = both[1].start
    assert (found.start, found.end) == (alone.start + shift, alone.end + shift)
    assert found.share == alone.share


def test_the_question_decides(locator: TorchLocator) -> None:
    places = locator.keep(chunks(LONG))

    shares = {best(locator, q, places).share for q in ("When?", "Who saw it?")}  # type: ignore[union-attr]

    assert len(shares) == 2


@pytest.mark.parametrize("text", [" ", "\n\n", "…", "日本 語", "\0", "a" * 300])
def test_odd_texts_can_be_kept_and_asked(locator: TorchLocator, text: str) -> None:
    places = locator.keep(chunks(text))

    for question in ("?", "", "word " * 500):
        found = best(locator, question, places)
        if text.isspace():
            assert found is None
        if found:
            assert text[found.start : found.end].strip() == text[found.start : found.end] != ""


def test_nothing_is_found_in_nothing(locator: TorchLocator) -> None:
    assert best(locator, "When?", locator.keep([])) is None


def test_places_of_another_locator_are_refused(locator: TorchLocator) -> None:
    places = replace(locator.keep(chunks(TEXT)), locator="cd" * 32)

    with pytest.raises(ModelError, match="Internalize the document anew"):
        best(locator, "When?", places)


def test_impossible_spans_are_never_chosen() -> None:
    ends = torch.zeros(1, 4, 2)
    begins, closes = torch.tensor([[False, True, True, False]]), torch.tensor([[True] * 4])

    found = span_logits(ends, begins, closes, 2)

    assert found.shape == (1, 2, 4)
    possible = [(n, first) for n in range(2) for first in range(4) if found[0, n, first] > -1]
    assert possible == [(0, 1), (0, 2), (1, 1), (1, 2)]


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    encoder, _, fingerprint = load_encoder(str(tiny_encoder(tmp_path / "encoder")))
    config = LocatorConfig(
        encoder=str(tmp_path / "encoder"), encoder_fingerprint=fingerprint, lower=1, width=16
    )
    save_locator(tmp_path / "locator", LocatorNetwork(config, encoder))
    return tmp_path / "locator"


def test_a_checkpoint_holds_all_but_the_embeddings(checkpoint: Path) -> None:
    names = set(load_file(checkpoint / "model.safetensors"))
    assert names
    assert not any(name.startswith("embeddings.") for name in names)

    once, again = (TorchLocator.from_checkpoint(checkpoint) for _ in range(2))

    places = once.keep(chunks(TEXT))
    assert once.fingerprint == again.fingerprint
    assert best(once, "When?", places) == best(again, "When?", places)


def test_what_is_no_checkpoint_is_told(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"Locator `.*nowhere` cannot be read"):
        TorchLocator.from_checkpoint(tmp_path / "nowhere")
    state = load_file(checkpoint / "model.safetensors")
    less = {name: tensor for name, tensor in state.items() if name != "ends.bias"}
    for damaged in ({**state, "other": torch.ones(2)}, less):
        save_file(damaged, checkpoint / "model.safetensors")
        with pytest.raises(ModelError, match="is missing, or is none of its weights"):
            TorchLocator.from_checkpoint(checkpoint)


def test_another_encoder_is_refused(checkpoint: Path) -> None:
    told = json.loads((checkpoint / "config.json").read_text())
    told["encoder_fingerprint"] = "0" * 64
    (checkpoint / "config.json").write_text(json.dumps(told))

    with pytest.raises(ModelError, match="trained on an encoder"):
        TorchLocator.from_checkpoint(checkpoint)


def test_several_places_come_best_first(locator: TorchLocator) -> None:
    places = locator.keep(chunks(LONG, TEXT))

    few, many = locator.locate([Look("When?", places, 3), Look("When?", places, 40)])

    assert (len(few), len(many)) == (3, 40)
    assert [p.odds for p in few] == pytest.approx([p.odds for p in many[:3]], rel=1e-3)
    assert [p.odds for p in many] == sorted((p.odds for p in many), reverse=True)
    assert len({(place.start, place.end) for place in many}) == 40
    alone = best(locator, "When?", places)
    assert alone is not None
    assert few[0].odds == pytest.approx(alone.odds, rel=1e-3)
