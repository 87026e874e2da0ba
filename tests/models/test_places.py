"""Places: kept in 8 bits, taken apart again, and taken in part."""

import torch

from hybridqa.models.places import packed, part, unpacked
from hybridqa.types import Places

SPANS = [(0, 3), (4, 6), (6, 7), (10, 14), (15, 17)]
BEGINS = [True, True, False, True, True]
CLOSES = [True, False, True, True, True]
LOCATOR = "ab" * 32


def kept(lengths: list[int]) -> tuple[Places, list[torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    states = [torch.randn(length + 2, 8, generator=generator) for length in lengths]
    return packed(states, SPANS, BEGINS, CLOSES, LOCATOR), states


def test_what_was_packed_comes_back() -> None:
    places, states = kept([3, 2])

    pieces = list(unpacked(places))

    assert places.states.dtype == torch.int8
    assert places.pieces.tolist() == [0, 5]
    for piece, exact in zip(pieces, states, strict=True):
        torch.testing.assert_close(piece.states, exact, atol=0.02, rtol=0.02)
        # Before the first token and behind the last nothing begins, and nothing ends.
        edges = [piece.begins[0], piece.begins[-1], piece.closes[0], piece.closes[-1]]
        assert not any(edges)
    assert [p.spans[1:-1].tolist() for p in pieces] == [
        [list(s) for s in part] for part in (SPANS[:3], SPANS[3:])
    ]
    assert [p.begins[1:-1].tolist() for p in pieces] == [BEGINS[:3], BEGINS[3:]]
    assert [p.closes[1:-1].tolist() for p in pieces] == [CLOSES[:3], CLOSES[3:]]


def test_a_part_of_a_text_is_whole_pieces() -> None:
    places, _ = kept([3, 2])

    inside = part(places, [(8, 17)])

    (piece,) = unpacked(inside)
    assert piece.spans[1:-1].tolist() == [[10, 14], [15, 17]]
    assert torch.equal(inside.states, places.states[5:])
    assert inside.locator == LOCATOR
    assert len(list(unpacked(part(places, [(10, 17), (0, 7)])))) == 2
    assert not list(unpacked(part(places, [(11, 17)])))
    assert not list(unpacked(part(places, [])))


def test_nothing_can_be_kept() -> None:
    nothing = packed([], [], [], [], LOCATOR)

    assert not list(unpacked(nothing))
    assert not list(unpacked(part(nothing, [(0, 5)])))
