"""How right an answer is, in [0, 1], against the best of its gold answers."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

_ARTICLE = re.compile(r"\b(a|an|the)\b")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def agrees(answer: str, golds: Sequence[str]) -> bool:
    """Tell whether an answer says what one of its gold answers says.

    It may say more, or less as long as no number is missing: "27" for "27 days", but not "three
    months" for "14 months". An empty answer agrees with nothing.
    """
    return bool(answer.strip()) and any(_says(answer, gold) for gold in golds)


def _says(answer: str, gold: str) -> bool:
    if answer.strip().casefold() == gold.strip().casefold():
        return True  # also where nothing is left of them: blood group "A"
    said, wanted = set(normalize(answer).split()), set(normalize(gold).split())
    numbers = {word for word in wanted if any(char.isdigit() for char in word)}
    return bool(said and wanted) and (wanted <= said or numbers <= said <= wanted)


def mentions(answer: str, value: str) -> bool:
    """Tell whether the words of a value stand in an answer, side by side, after `normalize`."""
    words = normalize(value)
    return bool(words) and f" {words} " in f" {normalize(answer)} "


def normalize(text: str) -> str:
    """Lower case, without ASCII punctuation, articles and needless spaces, as SQuAD does."""
    return " ".join(_ARTICLE.sub(" ", text.lower().translate(_NO_PUNCTUATION)).split())


def exact_match(answer: str, gold: str) -> float:
    """Return 1 if both are equal after `normalize`, else 0."""
    return float(normalize(answer) == normalize(gold))


def token_f1(answer: str, gold: str) -> float:
    """Return the harmonic mean of precision and recall of words after `normalize`.

    If either has no words left, 1 where both have none.
    """
    found, wanted = normalize(answer).split(), normalize(gold).split()
    if not found or not wanted:
        return float(found == wanted)
    common = sum((Counter(found) & Counter(wanted)).values())
    return 2 * common / (len(found) + len(wanted))


def rouge_l(answer: str, gold: str) -> float:
    """Return ROUGE-L's F-measure without stemming; its words are runs of ASCII letters, digits."""
    return float(_rouge().score(gold, answer)["rougeL"].fmeasure)


@lru_cache(maxsize=1)
def _rouge() -> Any:
    from rouge_score.rouge_scorer import RougeScorer  # takes seconds: it imports nltk

    return RougeScorer(["rougeL"], use_stemmer=False)
