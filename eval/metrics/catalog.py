"""What metrics there are. Every one lies in [0, 1], 1 is best, and `None` where it does not apply.

Questions that no document answers are scored as in SQuAD 2: text metrics give 1 where nothing was
answered, else 0. An answer that failed with an error is wrong in every metric of the answer itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hybridqa.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Metric:
    """What a reader of a report must know of a metric."""

    name: str
    label: str
    description: str
    """One plain sentence."""
    judge: bool = False
    """Needs a judge: a language model that reads the answer."""
    binary: bool = False
    """Only 0 or 1."""
    ragas: bool = False
    """Computed by RAGAS, which `pip install 'hybridqa[eval]'` brings."""
    reads: tuple[str, ...]
    """Of `question`, `answer`, `gold` (the preferred gold answer for a judge, else the best of
    all), `spans` (gold), `citations`, `retrieved` (what the index found) and `evidence` (what every
    arm is judged against). A judge is not asked where one of them is lacking."""


def _offline(
    name: str,
    label: str,
    description: str,
    *reads: str,
    binary: bool = False,
    ragas: bool = False,
) -> Metric:
    return Metric(
        name=name, label=label, description=description, reads=reads, binary=binary, ragas=ragas
    )


def _judged(name: str, label: str, description: str, *reads: str) -> Metric:
    return Metric(
        name=name, label=label, description=description, reads=reads, judge=True, ragas=True
    )


_ALL = (
    _offline(
        "correct",
        "Correct",
        "Whether the answer says what is expected, or rightly says nothing; more words are "
        "allowed, fewer too unless a number is missing.",
        "answer",
        "gold",
        binary=True,
    ),
    _offline(
        "exact_match",
        "Exact match",
        "Whether the answer equals a gold answer but for case, punctuation and articles.",
        "answer",
        "gold",
        binary=True,
    ),
    _offline(
        "f1",
        "F1",
        "How far the answer's words and the best gold answer's are the same (harmonic mean of "
        "precision and recall).",
        "answer",
        "gold",
    ),
    _offline(
        "rouge_l",
        "ROUGE-L",
        "How long a sequence of words the answer shares with the best gold answer, in order.",
        "answer",
        "gold",
    ),
    _offline(
        "string_similarity",
        "String similarity",
        "How few letters must change to turn the answer into the best gold answer (Levenshtein).",
        "answer",
        "gold",
        ragas=True,
    ),
    _offline(
        "semantic_similarity",
        "Semantic similarity",
        "How near the answer and the best gold answer are in meaning: the cosine of their "
        "embeddings, negative ones taken as 0.",
        "answer",
        "gold",
        ragas=True,
    ),
    _offline(
        "context_precision",
        "Context precision",
        "Whether the passages that the index finds for the question hold a gold span, the first "
        "counting most (average precision); the same for every arm.",
        "retrieved",
        "spans",
    ),
    _offline(
        "context_recall",
        "Context recall",
        "Of the documents that answer the question, the share of which a gold span lies in a "
        "passage that the index finds; the same for every arm.",
        "retrieved",
        "spans",
    ),
    _offline(
        "citation_precision",
        "Citation precision",
        "Of the answer's citations, the share that touches a gold span; none where nothing is "
        "cited.",
        "citations",
        "spans",
    ),
    _offline(
        "citation_recall",
        "Citation recall",
        "Of the documents that answer the question, the share of which the answer cites a gold "
        "span.",
        "citations",
        "spans",
    ),
    _offline(
        "abstention",
        "Abstention",
        "Whether nothing was answered exactly where no document says.",
        "answer",
        "gold",
        binary=True,
    ),
    _judged(
        "faithfulness",
        "Faithfulness",
        "Of the statements that the answer makes, the share that follows from the evidence.",
        "question",
        "answer",
        "evidence",
    ),
    _judged(
        "response_groundedness",
        "Groundedness",
        "How far the evidence supports the answer: not, partly or fully, as two prompts rate it.",
        "answer",
        "evidence",
    ),
    _judged(
        "answer_relevancy",
        "Answer relevancy",
        "How near in meaning the question is to those that the judge thinks the answer answers.",
        "question",
        "answer",
    ),
    _judged(
        "answer_correctness",
        "Answer correctness",
        "Statements shared with the gold answer (F1, three quarters) and nearness to it in "
        "meaning (one quarter).",
        "question",
        "answer",
        "gold",
    ),
    _judged(
        "factual_correctness",
        "Factual correctness",
        "How far the claims of the answer and of the gold answer support each other (F1).",
        "answer",
        "gold",
    ),
    _judged(
        "llm_context_precision",
        "Context precision (judge)",
        "Whether the judge finds the passages that the index finds useful for the gold answer, "
        "the first counting most; the same for every arm.",
        "question",
        "gold",
        "retrieved",
    ),
    _judged(
        "llm_context_recall",
        "Context recall (judge)",
        "Of the gold answer's statements, the share that the judge finds in the passages that the "
        "index finds; the same for every arm.",
        "question",
        "gold",
        "retrieved",
    ),
)

METRICS: Mapping[str, Metric] = {metric.name: metric for metric in _ALL}
"""By name, in the order of a report."""

GROUPS: Mapping[str, tuple[str, ...]] = {
    "offline": tuple(metric.name for metric in _ALL if not metric.judge),
    "judge": tuple(metric.name for metric in _ALL if metric.judge),
    "all": tuple(METRICS),
}


def parse_metrics(names: Sequence[str]) -> tuple[str, ...]:
    """Return the metrics that are meant, each once, in the order given.

    Args:
        names: Of metrics or of `GROUPS`; spaces around them are ignored.

    Raises:
        InputError: There is no such metric, or none is named; lists what there is.
    """
    there_is = f"Choose from {', '.join([*GROUPS, *METRICS])}."
    chosen: dict[str, None] = {}
    for name in (name.strip() for name in names):
        if name not in METRICS and name not in GROUPS:
            raise InputError(f"There is no metric `{name}`. {there_is}")
        chosen |= dict.fromkeys(GROUPS.get(name, (name,)))
    if not chosen:
        raise InputError(f"No metric is named. {there_is}")
    return tuple(chosen)
