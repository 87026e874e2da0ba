from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from hybridqa.errors import InputError, StoreError
from hybridqa.eval.metrics.catalog import GROUPS, METRICS
from hybridqa.eval.metrics.judgements import consistency, merge
from hybridqa.eval.metrics.judging import INAPPLICABLE, Done, judge_answers
from hybridqa.eval.rows import JudgementRow, ScoreRow
from hybridqa.testing import FakeEmbedder


class FakeJudge:
    """Replies what `reply` returns, or raises what it raises."""

    name, endpoint, plumbing, concurrency = "fake", "local", True, 3

    def __init__(
        self, reply: Callable[[str], str], again: Callable[[str], str] | None = None
    ) -> None:
        """Keep the arguments.

        Args:
            reply: To a prompt.
            again: In sessions with a seed; by default the same.
        """
        self._reply, self._again = reply, again or reply
        self.prompts: list[str] = []
        self.checked = 0

    def check(self) -> None:
        self.checked += 1

    @asynccontextmanager
    async def session(self, seed: int | None) -> AsyncIterator[Any]:
        yield _Session(self, self._reply if seed is None else self._again)


class _Session:
    def __init__(self, judge: FakeJudge, reply: Callable[[str], str]) -> None:
        self._judge, self._reply = judge, reply

    async def agenerate(self, prompt: str, response_model: Any) -> Any:
        self._judge.prompts.append(prompt)
        return response_model.model_validate_json(self._reply(prompt))


def judged(
    judge: Any,
    asked: Any,
    metrics: tuple[str, ...] = GROUPS["judge"],
    done: tuple[Done, ...] = (),
    limit: int | None = None,
    repeats: int = 0,
    seed: int = 0,
    append: Any = None,
    progress: Any = lambda *_: None,
) -> list[JudgementRow]:
    rows: list[JudgementRow] = []
    judge_answers(
        judge=judge,
        metrics=metrics,
        questions=asked.questions,
        answers=asked.answers,
        documents=asked.documents,
        embedder=FakeEmbedder(4096),  # so wide that no two words meet
        done=done,
        append=append or rows.extend,
        seed=seed,
        limit=limit,
        repeats=repeats,
        progress=progress,
    )
    return rows


def by_arm(rows: list[JudgementRow], arm: str, question: str = "weigh") -> dict[str, Any]:
    return {r.metric: r.value for r in rows if (r.arm, r.question) == (arm, question)}


WORKED = {
    "faithfulness": 1 / 2,  # one of two statements follows
    "response_groundedness": (1 / 2 + 2 / 2) / 2,
    "answer_relevancy": 1,  # the judge guesses the very question
    # Precision 1/2 and recall 1; of nine words two are the gold answer's.
    "answer_correctness": 0.75 * 2 / 3 + 0.25 * 2 / (9 * 2) ** 0.5,
    "factual_correctness": 0.67,  # RAGAS rounds
    "llm_context_precision": 1 / 2,  # the second passage of two
    "llm_context_recall": 1 / 2,
}


def test_known_values(asked: Any, reply: Any) -> None:
    rows = judged(FakeJudge(reply), asked)

    assert by_arm(rows, "adapter") == pytest.approx(WORKED, abs=1e-5)
    assert {*WORKED} == {*GROUPS["judge"]}


def test_equal_answers_of_arms_are_judged_once_and_on_the_same_evidence(
    asked: Any, reply: Any
) -> None:
    judge = FakeJudge(reply)

    rows = judged(judge, asked, ("faithfulness",))

    assert by_arm(rows, "retrieval") == by_arm(rows, "adapter") == {"faithfulness": 0.5}
    assert len(judge.prompts) == 2
    assert asked.documents["lamp"].text in judge.prompts[1]
    assert sorted(bool(row.seconds) for row in rows if row.value) == [False, True]


def test_what_cannot_be_asked_has_no_value_and_a_reason_but_is_no_failure(
    asked: Any, reply: Any
) -> None:
    rows = judged(FakeJudge(reply), asked)
    reasons = {(r.question, r.arm, r.metric): r.error for r in rows if r.value is None}

    assert reasons["weigh", "base", "faithfulness"] == INAPPLICABLE + "nothing was answered"
    assert reasons["weigh", "both", "faithfulness"] == INAPPLICABLE + "the arm failed to answer"
    assert reasons["cost", "adapter", "faithfulness"] == (
        INAPPLICABLE + "there is no evidence to judge by"
    )
    assert reasons["cost", "adapter", "answer_correctness"] == (
        INAPPLICABLE + "there is no gold answer"
    )
    assert ("weigh", "base", "llm_context_recall") not in reasons  # it does not read the answer
    scores = [ScoreRow(question="weigh", arm="base", scores={"f1": 0.0})]
    (merged,) = merge(scores, rows)
    assert merged.scores == {"f1": 0.0, **by_arm(rows, "base")}
    assert merged.scores["faithfulness"] is None
    assert merged.failures == {}


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (ConnectionError("refused"), "ConnectionError: refused"),
        ("I think it is fine.", "ValidationError"),
        ('{"rating": "high"}', "ValidationError"),
        ('{"statements": []}', "JudgeError: the judge returned an empty"),
    ],
)
def test_a_failed_item_is_counted_and_never_zero(
    asked: Any, said: str | Exception, reason: str
) -> None:
    def reply(prompt: str) -> str:
        if isinstance(said, Exception):
            raise said
        return said

    rows = judged(FakeJudge(reply), asked, ("faithfulness", "response_groundedness"))
    scores = [ScoreRow(question="weigh", arm="adapter", scores={"f1": 0.2})]
    (merged,) = merge(scores, rows)

    assert merged.scores == {"f1": 0.2, "faithfulness": None, "response_groundedness": None}
    assert merged.failures["faithfulness"].startswith(reason)
    assert merged.failures.keys() == {"faithfulness", "response_groundedness"}


def test_half_a_judgement_is_none(asked: Any, reply: Any) -> None:
    def one_fails(prompt: str) -> str:
        if "world class expert" in prompt:
            raise TimeoutError
        return str(reply(prompt))

    rows = judged(FakeJudge(one_fails), asked, ("response_groundedness",))

    assert by_arm(rows, "adapter") == {"response_groundedness": None}


def test_a_score_out_of_range_is_a_failure(asked: Any) -> None:
    rows = judged(
        FakeJudge(lambda _: '{"reason": "", "verdict": 7}'), asked, ("llm_context_precision",)
    )

    (error,) = {row.error for row in rows if row.question == "weigh"}
    assert str(error).startswith("ValueError: the score is 6.99")


def test_what_is_done_is_not_asked_again(asked: Any, reply: Any) -> None:
    judge = FakeJudge(reply)
    all_rows = judged(judge, asked, repeats=2)
    half = all_rows[::2]
    done = tuple((r.question, r.arm, r.metric, r.repeat) for r in half)

    rest = judged(FakeJudge(reply), asked, done=done, repeats=2)

    def key(row: JudgementRow) -> tuple[object, ...]:
        return row.question, row.arm, row.metric, row.repeat, row.value, row.error

    assert {*map(key, half)} | {*map(key, rest)} == {*map(key, all_rows)}
    assert len(half) + len(rest) == len(all_rows)
    everything = tuple((r.question, r.arm, r.metric, r.repeat) for r in all_rows)
    idle = FakeJudge(reply)
    assert judged(idle, asked, done=everything, repeats=2) == []
    assert (idle.checked, idle.prompts) == (0, [])


def test_the_limit_keeps_the_first_questions_in_every_arm(asked: Any, reply: Any) -> None:
    rows = judged(FakeJudge(reply), asked, ("faithfulness",), limit=1)

    assert {(row.question, row.arm) for row in rows} == {
        ("weigh", arm) for arm in ("adapter", "retrieval", "base", "both")
    }


def test_a_judge_is_compared_with_itself(asked: Any, reply: Any) -> None:
    def later(prompt: str) -> str:
        return str(reply(prompt)).replace('"rating": 1', '"rating": 2')

    rows = judged(
        FakeJudge(reply, again=later),
        asked,
        ("response_groundedness", "llm_context_recall"),
        repeats=5,
    )

    assert sorted(row.metric for row in rows if row.repeat == 1) == [
        "llm_context_recall",
        "response_groundedness",
    ]
    assert consistency(rows) == {
        "response_groundedness": {"n": 1, "agreement": 0.0, "mean_difference": 0.25},
        "llm_context_recall": {"n": 1, "agreement": 1.0, "mean_difference": 0.0},
    }
    (merged,) = merge([ScoreRow(question="weigh", arm="adapter", scores={})], rows)
    assert merged.scores["response_groundedness"] == 0.75  # the first verdict counts


def test_a_later_row_replaces_a_failed_one() -> None:
    failed = JudgementRow(question="q", arm="a", metric="m", value=None, error="timed out")
    tried_again = JudgementRow(question="q", arm="a", metric="m", value=0.5)

    (merged,) = merge([ScoreRow(question="q", arm="a", scores={})], [failed, tried_again])

    assert (merged.scores, merged.failures) == ({"m": 0.5}, {})


def test_consistency_passes_over_failures() -> None:
    first = JudgementRow(question="q", arm="a", metric="m", value=None, error="timed out")
    again = JudgementRow(question="q", arm="a", metric="m", value=0.5, repeat=1)

    assert consistency([first, again]) == {}


def test_a_judge_that_cannot_be_asked_is_told_before_anything_is_spent(
    asked: Any, reply: Any
) -> None:
    class Absent(FakeJudge):
        def check(self) -> None:
            raise InputError("it is not there")

    judge = Absent(reply)

    with pytest.raises(InputError, match="it is not there"):
        judged(judge, asked)
    assert judge.prompts == []


def test_a_full_disk_is_no_failure_of_the_judge(asked: Any, reply: Any) -> None:
    def append(rows: object) -> None:
        raise StoreError("the disk is full")

    with pytest.raises(StoreError, match="full"):
        judged(FakeJudge(reply), asked, append=append)


def test_progress_counts_what_is_asked(asked: Any, reply: Any) -> None:
    told: list[tuple[str, int, int]] = []

    judged(
        FakeJudge(reply),
        asked,
        ("answer_relevancy",),
        repeats=1,
        progress=lambda *args: told.append(args),
    )

    assert told == [("judging", n, 3) for n in range(4)]  # two answers, one of them twice


def test_metrics_without_a_judge_are_passed_over(asked: Any, reply: Any) -> None:
    judge = FakeJudge(reply)

    assert judged(judge, asked, tuple(n for n, m in METRICS.items() if not m.judge)) == []
    assert judge.checked == 0


def test_a_judge_that_goes_away_is_not_asked_for_ever(asked: Any, reply: Any) -> None:
    (lamp, _), answer = asked.questions, asked.answers[0]
    names = [f"q{n}" for n in range(60)]
    many = replace(
        asked,
        questions=tuple(replace(lamp, id=name) for name in names),
        answers=tuple(replace(answer, question=name) for name in names),
    )
    told = 0

    def goes_away(prompt: str) -> str:
        nonlocal told
        told += 1
        if told > 10:
            raise ConnectionError("gone")
        return reply(prompt)

    kept: list[JudgementRow] = []
    with pytest.raises(InputError, match=r"failed on 20 answers in a row.*gone.*resume"):
        judged(FakeJudge(goes_away), many, ("response_groundedness",), append=kept.extend)

    assert sum(row.value is not None for row in kept) >= 4
    assert len(kept) < 30
