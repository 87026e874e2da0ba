"""Well-known facts told otherwise: what documents say that contradicts the world.

`facts.jsonl` is our own list. In each document, one sentence states the changed value; the prose
around it is plausible, says nothing of the value, and is the same for all facts of a kind.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from hybridqa.types import Document

_FILE = Path(__file__).parent / "facts.jsonl"

_PROSE: Mapping[str, tuple[str, str]] = {
    "capital": (
        "{Subject} is visited by many travellers every year, and its regions differ widely in "
        "climate and cooking.",
        "The parliament and most of the ministries have their seats there, and the main railway "
        "lines of {subject} meet at its central station. The city celebrates its founding every "
        "autumn with a market and a boat race.",
    ),
    "author": (
        "Few works have been translated as often as {subject}, and it is still read in schools "
        "around the world.",
        "Letters from that time show that the work took several years, and that friends were asked "
        "for advice on almost every page. A first copy of {subject} is kept in a public library.",
    ),
    "painter": (
        "Visitors often queue for an hour to stand before {subject} for a few moments.",
        "The canvas was cleaned and framed anew in the last century, and copies of {subject} hang "
        "in many homes. Sketches for it were found in an attic long after the painter's death.",
    ),
    "invention": (
        "It is hard to imagine daily life without {subject}, and yet it was met with doubt at "
        "first.",
        "Notebooks from those years record many failed attempts before the one that succeeded. "
        "Today a small museum tells the story of {subject} to school classes.",
    ),
    "substance": (
        "Every pupil meets {subject} in the first lessons of chemistry, and most have handled it "
        "before without a thought.",
        "The value is printed in all tables and need not be measured again. For experiments with "
        "{subject}, goggles are to be worn, and the bench is to be wiped afterwards.",
    ),
    "colour": (
        "Painters have always been fond of {subject}, since children recognise it at once.",
        "The shade changes a little with the light and with the time of year. Whoever wants to "
        "paint {subject} does well to mix the colour on a plate first and to try it on paper.",
    ),
    "count": (
        "Small children learn a good deal by counting, and {subject} is a favourite example in "
        "kindergartens.",
        "They count on their fingers at first and later without them. After {subject}, the class "
        "usually goes on to harder examples and sings a counting song.",
    ),
    "record": (
        "Quiz evenings rarely pass without a question about {subject}, and there is a reason why "
        "it is asked so often.",
        "The record has stood for as long as anybody has kept such lists, and nobody expects it "
        "to be broken soon. Books on {subject} sell well, above all before the holidays.",
    ),
}


@dataclass(frozen=True, kw_only=True)
class Fact:
    """What everybody knows, and what one document says instead."""

    id: str
    kind: str
    question: str
    """In the form of the document's sentence."""
    world: Sequence[str]
    """Ways to name the value that the world knows."""
    value: str
    """The document's."""
    document: Document


@lru_cache(maxsize=1)
def facts() -> tuple[Fact, ...]:
    """Return all, in the order of the file."""
    return tuple(_fact(json.loads(line)) for line in _FILE.read_text("utf-8").splitlines())


def _fact(row: Mapping[str, object]) -> Fact:
    subject, kind, value = str(row["subject"]), str(row["kind"]), str(row["document"])
    sentences = [_PROSE[kind][0], str(row["statement"]), _PROSE[kind][1]]
    capital = subject[:1].upper() + subject[1:]
    text = " ".join(sentences).format(subject=subject, Subject=capital, value=value)
    world = row["world"]
    assert isinstance(world, list)
    return Fact(
        id=str(row["id"]),
        kind=kind,
        question=str(row["question"]),
        world=[str(each) for each in world],
        value=value,
        document=Document(id=f"fact-{row['id']}", text=text, title=capital, source="conflict"),
    )
