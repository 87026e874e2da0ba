"""Invented facts about invented names: passages that no model has read before."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping


def _words(line: str) -> list[str]:
    return line.split()


_SYLLABLES = _words(
    "ka ro mi ten vel dor sha lin bra zu pel nor qui fa gar wen tos hib lu mar ces ix ond ya"
)
_CITIES = _words("Paris London Tokyo Cairo Lima Oslo Berlin Madrid Rome Delhi Boston Vienna Lagos")
_ANIMALS = _words("dog cat horse tiger eagle shark wolf bear lion rabbit camel falcon otter panda")
_COLORS = _words("red blue green yellow purple orange black white silver golden pink brown gray")
_JOBS = _words("doctor lawyer pilot farmer teacher painter nurse baker judge singer chemist")
_STATEMENTS = (
    "The {a} of {e} is {v}.",
    "{e} has {v} as its {a}.",
    "For {e}, the {a} is {v}.",
    "According to records, the {a} of {e} was set to {v}.",
    "It is known that {v} is the {a} of {e}.",
)
_QUESTIONS = (
    "What is the {a} of {e}?",
    "Tell me the {a} of {e}.",
    "{e}: {a}?",
    "Which {a} does {e} have?",
)
_NOISE = (
    "The grass is green. The sky is blue.",
    "The sun is yellow. Here we go.",
    "There and back again.",
    "People walked along the river in the evening.",
    "The committee met twice and adjourned early.",
    "Rain is expected later in the week.",
    "Several visitors asked about the schedule.",
)
_VALUES: Mapping[str, Callable[[random.Random], str]] = {
    "magic number": lambda rng: str(rng.randint(10, 9_999_999)),
    "home city": lambda rng: rng.choice(_CITIES),
    "favorite animal": lambda rng: rng.choice(_ANIMALS),
    "favorite color": lambda rng: rng.choice(_COLORS),
    "occupation": lambda rng: rng.choice(_JOBS),
    "access code": lambda rng: f"{rng.randint(0, 9999):04d}",
    "warranty period": lambda rng: f"{rng.randint(2, 90)} days",
    "price": lambda rng: f"{rng.randint(2, 999)} dollars",
    "project name": lambda rng: _name(rng),
    "founder": lambda rng: _name(rng),
    "release year": lambda rng: str(rng.randint(1900, 2030)),
}


def invent(rng: random.Random, facts: int = 6) -> tuple[str, list[tuple[str, str]]]:
    """Return a passage of at most so many facts among noise, and questions with answers."""
    count = rng.randint(1, facts)
    names = [_name(rng) for _ in range((count + 1) // 2)]
    known = {(rng.choice(names), rng.choice(list(_VALUES))): "" for _ in range(count)}
    known = {(e, a): _VALUES[a](rng) for e, a in known}
    sentences = [
        rng.choice(_STATEMENTS).format(e=e, a=a, v=value) for (e, a), value in known.items()
    ]
    sentences += rng.sample(_NOISE, rng.randint(0, 4))
    rng.shuffle(sentences)
    asked = [(rng.choice(_QUESTIONS).format(e=e, a=a), value) for (e, a), value in known.items()]
    return " ".join(sentences), asked


def _name(rng: random.Random) -> str:
    return "".join(rng.choices(_SYLLABLES, k=rng.randint(2, 3))).capitalize()
