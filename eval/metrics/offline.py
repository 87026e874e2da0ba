"""Score answers without a judge."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from hybridqa.eval.metrics import ragas_metrics, spans, text
from hybridqa.eval.metrics.catalog import METRICS
from hybridqa.eval.rows import AnswerRow, QuestionRow, ScoreRow
from hybridqa.protocols import Embedder

Progress = Callable[[str, int, int], None]
"""Called with stage, done and total."""

_Pair = tuple[QuestionRow, AnswerRow]


def score_offline(
    metrics: Sequence[str],
    questions: Sequence[QuestionRow],
    answers: Sequence[AnswerRow],
    embedder: Embedder,
    progress: Progress,
) -> list[ScoreRow]:
    """Score every answer by every metric that needs no judge.

    Args:
        metrics: Names; those with a judge are left to `judging.judge_answers`.
        questions: All that were asked.
        answers: To any of them, in any order.
        embedder: For `semantic_similarity`.
        progress: Called metric by metric, and with the texts that are embedded.

    Returns:
        One row per answer, in order.

    Raises:
        InputError: A metric needs RAGAS, and it is not installed.
    """
    by_id = {question.id: question for question in questions}
    pairs = [(by_id[answer.question], answer) for answer in answers]
    names = [name for name in metrics if not METRICS[name].judge]
    columns = {}
    for done, name in enumerate(names):
        progress(f"scoring: {METRICS[name].label}", done, len(names))
        columns[name] = _column(name, pairs, embedder, progress)
    return [
        ScoreRow(
            question=answer.question,
            arm=answer.arm,
            scores={name: column[n] for name, column in columns.items()},
        )
        for n, answer in enumerate(answers)
    ]


def _column(
    name: str, pairs: Sequence[_Pair], embedder: Embedder, progress: Progress
) -> Sequence[float | None]:
    if name == "string_similarity":
        return _best_of_all(pairs, ragas_metrics.string_similarities)
    if name == "semantic_similarity":
        return _best_of_all(
            pairs,
            lambda texts: ragas_metrics.semantic_similarities(
                texts, embedder, lambda done, total: progress("embedding answers", done, total)
            ),
        )
    return [_ONE_BY_ONE[name](question, answer) for question, answer in pairs]


def _best_of_all(
    pairs: Sequence[_Pair],
    measure: Callable[[Sequence[tuple[str, str]]], list[float]],
) -> list[float]:
    """Measure all distinct (answer, gold) at once, and give each answer its best gold."""
    texts = list(
        dict.fromkeys(
            (answer.answer, gold)
            for question, answer in pairs
            for gold in question.answers
            if answer.answer
        )
    )
    measured = dict(zip(texts, measure(texts), strict=True))
    best = _against_gold(lambda answer, gold: measured[answer, gold])
    return [best(question, answer) for question, answer in pairs]


def _against_gold(
    measure: Callable[[str, str], float],
) -> Callable[[QuestionRow, AnswerRow], float]:
    """Make a measure of two texts one of an answer, as SQuAD 2 does."""

    def best(question: QuestionRow, answer: AnswerRow) -> float:
        if not question.answers:
            return float(answer.abstained)
        if not answer.answer:
            return 0.0
        return max(measure(answer.answer, gold) for gold in question.answers)

    return best


def _abstention(question: QuestionRow, answer: AnswerRow) -> float:
    return float(answer.error is None and answer.abstained is not bool(question.answers))


_ONE_BY_ONE: Mapping[str, Callable[[QuestionRow, AnswerRow], float | None]] = {
    "correct": _against_gold(lambda answer, gold: float(text.agrees(answer, [gold]))),
    "exact_match": _against_gold(text.exact_match),
    "f1": _against_gold(text.token_f1),
    "rouge_l": _against_gold(text.rouge_l),
    "context_precision": lambda q, _: spans.ranked_precision(q.retrieved, q.spans),
    "context_recall": lambda q, _: spans.recall(q.retrieved, q.spans),
    "citation_precision": lambda q, a: spans.precision(a.citations, q.spans),
    "citation_recall": lambda q, a: spans.recall(a.citations, q.spans),
    "abstention": _abstention,
}
