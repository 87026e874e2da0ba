"""Short made-up facts to hide in a text, each with a question and one right answer."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

_CITIES = (
    *("Aldermoor", "Brackwell", "Corvane", "Dunmarrow", "Eastlyn", "Farholt", "Gildersby"),
    *("Harrowick", "Ilmere", "Jorvale", "Kestrelford", "Lindholm", "Marrowdale", "Norwyn"),
    *("Ostermouth", "Pellworth", "Quarrington", "Ravenholt", "Silverdene", "Thornaby"),
)
_PEOPLE = (
    *("Ada Quill", "Bram Osterley", "Celia Tarn", "Dorian Pike", "Edith Marlow", "Felix Harrow"),
    *("Greta Lindqvist", "Hugo Senn", "Iris Calloway", "Jonas Weir", "Klara Voss", "Leo Barrow"),
    *("Mina Thorne", "Nils Ekdal", "Olive Renshaw", "Piers Holloway", "Rosa Dunmore"),
)
_WORDS = (
    *("marigold", "tangerine", "falcon", "lantern", "juniper", "obsidian", "walnut", "harpoon"),
    *("velvet", "thimble", "saffron", "anchor", "badger", "cinnamon", "compass", "glacier"),
)
_THINGS = (
    *("a silver key", "a brass telescope", "a clay whistle", "an ivory comb", "a glass marble"),
    *("a copper bell", "a wooden flute", "a pearl button", "a tin soldier", "an iron ring"),
)
_NUMBER, _YEAR = range(1000, 10_000), range(1500, 2000)


@dataclass(frozen=True)
class Needle:
    """A fact that nobody can know without the text."""

    kind: str
    sentence: str
    question: str
    value: str
    """What a right answer mentions."""


@dataclass(frozen=True)
class _Kind:
    """Wordings of one kind of fact, of `{subject}` and `{value}`."""

    name: str
    sentences: Sequence[str]
    questions: Sequence[str]
    """Any of them may be asked of any sentence: in its own words, or in others."""
    subjects: Sequence[str]
    values: Sequence[object]


_KINDS = (
    _Kind(
        "number",
        (
            "The special magic number for {subject} is {value}.",
            "Remember that {value} is the magic number of {subject}.",
        ),
        (
            "What is the special magic number for {subject}?",
            "Which magic number belongs to {subject}?",
        ),
        _CITIES,
        _NUMBER,
    ),
    _Kind(
        "password",
        (
            "The password for the gate of {subject} is {value}.",
            "Whoever wants to pass the gate of {subject} must say the password {value}.",
        ),
        (
            "What is the password for the gate of {subject}?",
            "Which password opens the gate of {subject}?",
        ),
        _CITIES,
        _WORDS,
    ),
    _Kind(
        "year",
        (
            "The old lighthouse of {subject} was built in {value}.",
            "It was in {value} that {subject} got its lighthouse.",
        ),
        (
            "In which year was the old lighthouse of {subject} built?",
            "When was the lighthouse of {subject} built?",
        ),
        _CITIES,
        _YEAR,
    ),
    _Kind(
        "thing",
        (
            "In the left pocket, {subject} always carries {value}.",
            "{subject} is never seen without {value} in the left pocket.",
        ),
        (
            "What does {subject} always carry in the left pocket?",
            "What is there in the left pocket of {subject}?",
        ),
        _PEOPLE,
        _THINGS,
    ),
    _Kind(
        "person",
        (
            "The mayor of {subject} is called {value}.",
            "Last spring {value} was elected mayor of {subject}.",
        ),
        ("What is the mayor of {subject} called?", "Who is the mayor of {subject}?"),
        _CITIES,
        _PEOPLE,
    ),
)

KINDS = tuple(kind.name for kind in _KINDS)


def needles(count: int, seed: int) -> list[Needle]:
    """Return so many facts; the kinds take turns.

    Args:
        count: The first of a larger number are those of a smaller one.
        seed: Of subjects, values and wordings. Facts next to each other (the last and the first
            too) differ in kind and value: one's answer is wrong for the other.
    """
    rng = random.Random(f"needles {seed}")
    order = rng.sample(_KINDS, len(_KINDS))
    drawn: list[Needle] = []
    while len(drawn) < count:
        kind = order[len(drawn) % len(order)]
        near = {needle.value for needle in [*drawn[:1], *drawn[-len(order) :]]}
        subject = rng.choice(kind.subjects)
        value = rng.choice([value for value in map(str, kind.values) if value not in near])
        drawn.append(
            Needle(
                kind=kind.name,
                sentence=rng.choice(kind.sentences).format(subject=subject, value=value),
                question=rng.choice(kind.questions).format(subject=subject),
                value=value,
            )
        )
    return drawn
