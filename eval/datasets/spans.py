"""Where in a text an answer stands."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

_VERDICTS = frozenset({"yes", "no", "true", "false"})
"""Answers that judge: such a word in the text is not the answer."""


def find_answers(answers: Iterable[str], text: str) -> list[tuple[int, int]]:
    """Return (start, end) of every occurrence of any of the answers, in order.

    Occurrences are of whole words and numbers; white space may differ. Case counts, unless none
    of the answers occurs so.
    """
    sought = [answer for answer in answers if answer.lower() not in _VERDICTS]
    exact = {span for answer in sought for span in _occurrences(answer, text)}
    if exact or not sought:
        return sorted(exact)
    lowered = text.lower()
    return sorted({span for a in sought for span in _occurrences(a, text, lowered)})


def _occurrences(answer: str, text: str, lowered: str | None = None) -> Iterator[tuple[int, int]]:
    """Yield (start, end); whatever the case, if the text is given in lower case as well."""
    words = answer.split()
    # Far quicker than the pattern, and enough to tell most answers that do not occur.
    if any(w not in text if lowered is None else w.lower() not in lowered for w in words):
        return
    pattern = r"\s+".join(map(re.escape, words))
    pattern = _no_more(answer[0], before=True) + pattern + _no_more(answer[-1], before=False)
    for match in re.finditer(pattern, text, 0 if lowered is None else re.IGNORECASE):
        yield match.span()


def _no_more(edge: str, before: bool) -> str:
    """Return a pattern that holds where the word or number at an answer's edge does not go on."""
    if edge.isdecimal():  # the 3 of 3.5, or of 1,003, is another number
        return r"(?<!\w)(?<!\d[.,])" if before else r"(?!\w|[.,]\d)"
    if edge.isalnum() or edge == "_":
        return r"(?<!\w)" if before else r"(?!\w)"
    return ""
