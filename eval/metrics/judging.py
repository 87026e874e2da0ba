"""Ask a judge about answers: each thing once, everything on the disk as it comes, resumable.

Every arm is held against the same evidence, that of the question: an adapter has no retrieved
passages of its own. What a judge cannot be asked, and where it failed, is said row by row.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from typing import Any, Protocol

from hybridqa.errors import InputError
from hybridqa.eval.metrics.catalog import METRICS
from hybridqa.eval.metrics.offline import Progress
from hybridqa.eval.metrics.ragas_judged import judge_one, reason
from hybridqa.eval.metrics.ragas_metrics import Embeddings, collections, run_async
from hybridqa.eval.rows import AnswerRow, DocumentRow, JudgementRow, QuestionRow, SpanRow
from hybridqa.protocols import Embedder

_PATIENCE = 20
"""Failures in a row after which a judge is given up: each may have taken minutes of retries."""

INAPPLICABLE = "does not apply: "
"""Begins the `error` of a row whose metric could not be asked of the judge at all."""

Done = tuple[str, str, str, int]
"""Question, arm, metric and repeat of a row."""


class Judge(Protocol):
    """A language model that RAGAS may ask."""

    @property
    def name(self) -> str: ...
    @property
    def endpoint(self) -> str:
        """Its address, or `local`."""
        ...

    @property
    def plumbing(self) -> bool:
        """Known to be too small to judge: its scores show only that all parts fit together."""
        ...

    @property
    def concurrency(self) -> int:
        """Items to judge at the same time."""
        ...

    def check(self) -> None:
        """Make sure that it can be asked.

        Raises:
            InputError: It cannot be reached, refuses the key, does not know the model.
        """
        ...

    def session(self, seed: int | None) -> AbstractAsyncContextManager[Any]:
        """Lend what RAGAS calls a language model, with an `agenerate(prompt, response_model)`.

        Args:
            seed: `None` asks for the likeliest words; a number has them drawn at temperature 0.7,
                reproducibly where the judge can.
        """
        ...


def judge_answers(
    judge: Judge,
    metrics: Sequence[str],
    questions: Sequence[QuestionRow],
    answers: Sequence[AnswerRow],
    documents: Mapping[str, DocumentRow],
    embedder: Embedder,
    done: Collection[Done],
    append: Callable[[Sequence[JudgementRow]], None],
    seed: int,
    limit: int | None,
    repeats: int,
    progress: Progress,
) -> None:
    """Judge every answer by every metric that needs a judge.

    Equal answers of several arms to a question are judged once; the row is copied, with 0 seconds.
    A failed item gives a row without a value and with the reason; nothing is raised for it, unless
    so many fail one after another that the judge must be gone.

    Args:
        judge: Whom to ask; checked first if there is anything to ask.
        metrics: Names; those without a judge are passed over.
        questions: Those to judge come first.
        answers: To any of them.
        documents: By id; evidence and retrieved passages are read from them.
        embedder: For answer_relevancy and answer_correctness.
        done: Rows that need not be made again. Leave failed ones out to try them again.
        append: Called with rows as they are made, those of one item together.
        seed: Of the sample that is judged again, and of its words.
        limit: Judge the first so many questions only, in all arms.
        repeats: So many items of each metric, chosen at random, are judged a second time.
        progress: Called item by item.

    Raises:
        InputError: RAGAS is not installed, or the judge cannot be asked at all, or not any more.
    """
    collections()
    items, inapplicable = _plan(metrics, questions[:limit], answers, documents)
    again = _sample(items, repeats, seed)
    new = [row for row in inapplicable if _key(row) not in done]
    if new:
        append(new)
    first, again = _left(items, done), _left(again, done)
    if not first and not again:
        return
    judge.check()
    total = len(first) + len(again)
    count = in_a_row = 0

    def tell(rows: Sequence[JudgementRow]) -> None:
        nonlocal count, in_a_row
        count += 1
        append(rows)
        progress("judging", count, total)
        in_a_row = in_a_row + 1 if rows[0].value is None else 0
        if in_a_row == _PATIENCE:
            raise InputError(
                f"The judge `{judge.name}` ({judge.endpoint}) failed on {_PATIENCE} answers in a "
                f"row, the last time because: {rows[0].error} What it judged before is kept: "
                "resume the run when it is well again, or without it."
            )

    async def both() -> None:
        embeddings = Embeddings(embedder)
        for todo, drawn in ((first, None), (again, seed)):
            async with judge.session(drawn) as llm:
                await _judge_all(todo, llm, embeddings, judge.concurrency, tell)

    progress("judging", 0, total)
    run_async(both())


@dataclass(frozen=True, kw_only=True)
class _Item:
    """What is asked once."""

    metric: str
    texts: Mapping[str, Any]
    """By the names of `Metric.reads`."""
    rows: tuple[JudgementRow, ...]
    """That the verdict goes into."""


def _plan(
    metrics: Sequence[str],
    questions: Sequence[QuestionRow],
    answers: Sequence[AnswerRow],
    documents: Mapping[str, DocumentRow],
) -> tuple[list[_Item], list[JudgementRow]]:
    """Return what is to be asked, question by question, and rows for what cannot be."""
    by_question: dict[str, list[AnswerRow]] = {}
    for answer in answers:
        by_question.setdefault(answer.question, []).append(answer)
    items: dict[tuple[str, str, str], _Item] = {}
    inapplicable = []
    for question, name in ((q, m) for q in questions for m in metrics if METRICS[m].judge):
        for answer in by_question.get(question.id, []):
            row = JudgementRow(question=question.id, arm=answer.arm, metric=name, value=None)
            known = _known(question, answer, documents)
            texts = {key: known[key] for key in METRICS[name].reads}
            if lacking := [key for key, value in texts.items() if not value]:
                why = _why(lacking[0], answer)
                inapplicable.append(replace(row, error=INAPPLICABLE + why))
                continue
            key = (question.id, name, texts.get("answer", ""))
            item = items.get(key, _Item(metric=name, texts=texts, rows=()))
            items[key] = replace(item, rows=(*item.rows, row))
    return list(items.values()), inapplicable


def _known(
    question: QuestionRow, answer: AnswerRow, documents: Mapping[str, DocumentRow]
) -> dict[str, Any]:
    def passages(spans: Sequence[SpanRow]) -> list[str]:
        texts = [documents[span.document].text[span.start : span.end] for span in spans]
        return [text for text in texts if text.strip()]

    return {
        "question": question.question,
        "answer": answer.answer.strip(),
        "gold": question.answers[0] if question.answers else "",
        "evidence": passages(question.evidence),
        "retrieved": passages(question.retrieved),
    }


def _why(lacking: str, answer: AnswerRow) -> str:
    if lacking == "answer":
        return "the arm failed to answer" if answer.error is not None else "nothing was answered"
    return {
        "question": "the question is empty",
        "gold": "there is no gold answer",
        "evidence": "there is no evidence to judge by",
        "retrieved": "the index found nothing",
    }[lacking]


def _sample(items: Sequence[_Item], repeats: int, seed: int) -> list[_Item]:
    """Choose what is judged again: of each metric, one answer of each chosen item."""
    chosen = []
    for metric in dict.fromkeys(item.metric for item in items):
        of_metric = [item for item in items if item.metric == metric]
        rng = random.Random(f"{seed} {metric}")
        for item in rng.sample(of_metric, min(repeats, len(of_metric))):
            chosen.append(replace(item, rows=(replace(item.rows[0], repeat=1),)))
    return chosen


def _left(items: Sequence[_Item], done: Collection[Done]) -> list[_Item]:
    left = (
        replace(item, rows=tuple(row for row in item.rows if _key(row) not in done))
        for item in items
    )
    return [item for item in left if item.rows]


def _key(row: JudgementRow) -> Done:
    return row.question, row.arm, row.metric, row.repeat


async def _judge_all(
    items: Sequence[_Item],
    llm: Any,
    embeddings: Embeddings,
    concurrency: int,
    tell: Callable[[Sequence[JudgementRow]], None],
) -> None:
    async def work(queue: Iterator[_Item]) -> None:
        for item in queue:
            rows = await _judged(item, llm, embeddings)
            try:
                tell(rows)
            except BaseException:
                for _ in queue:  # the other workers find nothing more to do
                    pass
                raise

    queue = iter(items)
    await asyncio.gather(*(work(queue) for _ in range(concurrency)))


async def _judged(item: _Item, llm: Any, embeddings: Embeddings) -> list[JudgementRow]:
    began = time.perf_counter()
    value, error = None, None
    try:
        value = await judge_one(item.metric, item.texts, llm, embeddings)
    except Exception as exc:  # whatever a judge, its endpoint or RAGAS may do to one item
        error = reason(exc)
    seconds = time.perf_counter() - began
    return [
        replace(row, value=value, error=error, seconds=seconds if n == 0 else 0.0)
        for n, row in enumerate(item.rows)
    ]
