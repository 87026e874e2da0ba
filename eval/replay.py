"""What another policy would have made of the questions in a log. No model is asked.

Each question is decided again from what its line says routing looked at, by the code that decides
live, and followed to its answer by the code that follows live. Where that needs an attempt that was
not made then, an evaluation run may know it; what nobody knows stays unknown, and is counted.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean, median

from hybridqa.engines.follow import Way, follow
from hybridqa.eval.arms import ArmName, under_policy
from hybridqa.eval.costs import timed_seconds
from hybridqa.eval.metrics import token_f1
from hybridqa.eval.replay_report import Cost, Quality, Replayed, ReplayReport
from hybridqa.eval.rows import QuestionRow, Run
from hybridqa.eval.statistics import difference_interval
from hybridqa.eval.summary import clusters
from hybridqa.routing.conditions import Candidate
from hybridqa.routing.decision import accept, decide
from hybridqa.routing.policy import Policy
from hybridqa.stores.question_log import LoggedCandidate, LoggedQuestion
from hybridqa.types import (
    AdapterRecord,
    AdapterState,
    Arm,
    Attempt,
    Decision,
    Document,
    DocumentRecord,
    Style,
)


def replay(
    log: Sequence[LoggedQuestion], policy: Policy, run: Run | None = None, seed: int = 0
) -> ReplayReport:
    """Put logged questions to another policy.

    Args:
        log: Questions whose arm the caller chose, and those that ended in an error, are left out.
        policy: The other one.
        run: May know what is right, and answers that the log does not have: those to the same
            question, of the same model, on the same texts.
        seed: Of the interval.
    """
    asked = [entry for entry in log if entry.asked_arm is None and entry.error is None]
    known = _Known(run)
    ways = [_follow(entry, policy, known) for entry in asked]
    gold = [known.question(entry) for entry in asked]
    rows = tuple(map(_replayed, asked, ways, gold))
    return ReplayReport(
        policy=policy.name,
        style=policy.style,
        policies=dict(Counter(entry.policy for entry in asked)),
        rows=rows,
        forced=sum(entry.asked_arm is not None for entry in log),
        failed=sum(entry.asked_arm is None and entry.error is not None for entry in log),
        redacted=sum(entry.redacted for entry in asked),
        quality=_quality(rows, gold, seed),
        cost=_cost(asked, ways, known.medians(policy.style)),
    )


class _Known:
    """What an evaluation run knows; nothing without one."""

    def __init__(self, run: Run | None) -> None:
        self._model = run.manifest.model.get("fingerprint") if run else None
        self._hashes = {row.id: row.content_hash for row in run.documents} if run else {}
        self._answers = {(row.question, row.arm): row for row in run.answers} if run else {}
        self._seconds = timed_seconds(run) if run else {}
        self._questions: dict[str, QuestionRow] = {}
        times = Counter(row.question.strip() for row in run.questions) if run else Counter()
        for row in run.questions if run else ():
            if times[row.question.strip()] == 1:  # else nobody can tell which one was asked
                self._questions[row.question.strip()] = row

    def question(self, entry: LoggedQuestion) -> QuestionRow | None:
        """Return the run's question of the same words, which found the same texts."""
        question = self._questions.get(entry.question)
        if question is None:
            return None
        found = {self._hashes.get(span.document) for span in question.retrieved}
        looked_at = {candidate.content_hash for candidate in entry.candidates}
        return question if looked_at == found else None

    def attempt(
        self, entry: LoggedQuestion, decision: Decision, arm: Arm, style: Style
    ) -> Attempt | None:
        """Return what the run's bare arm answered, if that is what the router's would have."""
        question = self.question(entry)
        row = question and self._answers.get((question.id, _styled(arm, style)))
        if not row or row.error is not None or entry.model != self._model:
            return None
        worn = decision.adapter.id if decision.adapter else None
        if row.adapter != (worn if arm is not Arm.RETRIEVAL else None):
            return None
        return Attempt(
            arm=arm,
            text=row.answer,
            abstained=row.abstained,
            cited=bool(row.citations),
            confidence=row.confidence,
            relevance=row.relevance,
            asked=row.asked,
            milliseconds=row.timings_ms.get("total", 0.0),
        )

    def medians(self, style: Style) -> dict[tuple[Arm, ...], float]:
        """Return the median milliseconds of answers under the bare arms, of those timed."""
        found = {(arm,): self._seconds.get(_styled(arm, style)) for arm in Arm}
        return {path: 1000 * median(times.values()) for path, times in found.items() if times}


def _styled(arm: Arm, style: Style) -> str:
    return str(under_policy(ArmName(arm), style))


def _follow(entry: LoggedQuestion, policy: Policy, known: _Known) -> Way:
    """Decide and follow as `engines.answer` does, with attempts that are remembered."""
    candidates = tuple(map(_candidate, entry.candidates))
    decision = decide(entry.query, candidates, policy, entry.asked_at)
    style = entry.asked_style or policy.style
    logged = {
        attempt.arm: attempt
        for attempt in entry.attempts
        if style is entry.style or attempt.arm is Arm.BASE
    }

    def attempt(arm: Arm) -> Attempt | None:
        found = logged.get(arm) or known.attempt(entry, decision, arm, style)
        return found and _decidable(found, policy)

    return follow(decision, attempt, policy)


def _decidable(attempt: Attempt, policy: Policy) -> Attempt | None:
    """Return an attempt whose checks can be made; `None` if they hang on what is not known.

    That is support that was not measured, and what a model would say that was not asked.
    """
    least = policy.thresholds.least_relevance(attempt.arm)
    if not attempt.asked and (attempt.relevance or 0.0) >= least:
        return None
    if attempt.support is not None or attempt.abstained or attempt.arm is not Arm.ADAPTER:
        return attempt
    if not attempt.cited:
        return replace(attempt, support=0.0)
    if policy.checks.support and accept(attempt.confidence, 1.0, policy)[0]:
        return None
    return replace(attempt, support=1.0)  # dropped or not, whatever its support


def _candidate(logged: LoggedCandidate) -> Candidate:
    """Return a candidate as conditions see it. The log has no texts, and they look at none."""
    document = Document(
        id=logged.document_id,
        text="",
        title="",
        source="",
        modified_at=logged.modified_at,
        modified_by=logged.modified_by,
    )
    record = DocumentRecord(
        document=document,
        signals=logged.signals,
        chunks=0,
        ingested_at=logged.ingested_at,
        first_ingested_at=logged.first_ingested_at,
    )
    adapter = logged.adapter_id and AdapterRecord(
        id=logged.adapter_id,
        document_id=document.id,
        content_hash=document.content_hash,
        model_fingerprint="",
        internalizer="",
        internalizer_fingerprint="",
        task_adapter_id=None,
        rank=0,
        energy=0.0,
        shares=(),
        good_shares=1,
        size_bytes=0,
        seconds=0.0,
        created_at=logged.ingested_at,
        state=AdapterState.LIVE,
    )
    return Candidate(record=record, adapter=adapter or None, similarity=logged.similarity)


def _replayed(entry: LoggedQuestion, way: Way, question: QuestionRow | None) -> Replayed:
    assert entry.arm is not None, "an error has no arm, and is left out"
    before = None if entry.redacted and not entry.abstained else entry.answer
    after = None
    if way.known:
        after = way.given.text if way.given else ""
        if way.given and not after:  # redacted
            after = None
    return Replayed(
        question=entry.question,
        asked_at=entry.asked_at.isoformat(),
        arm_before=entry.arm,
        arm_after=way.arm,
        settled=_path(way) is not None,
        reasons=tuple(way.reasons),
        why=tuple(reason for reason in way.reasons if reason not in entry.reasons),
        abstained_before=entry.abstained,
        abstained_after=way.given is None if way.known else None,
        answer_before=before,
        answer_after=after,
        f1_before=_f1(before, question),
        f1_after=_f1(after, question),
    )


def _path(way: Way) -> tuple[Arm, ...] | None:
    """Return the arms tried on a way; `None` if it is not known whether another would follow."""
    tried = tuple(attempt.arm for attempt in way.attempts)
    if way.known:
        return tried
    return None if way.arm is Arm.ADAPTER else (*tried, way.arm)


def _f1(answer: str | None, question: QuestionRow | None) -> float | None:
    """As the metric `f1`: an abstention is right where no document says, and only there."""
    if answer is None or question is None:
        return None
    if not answer or not question.answers:
        return float(not answer and not question.answers)
    return max(token_f1(answer, gold) for gold in question.answers)


def _quality(
    rows: Sequence[Replayed], gold: Sequence[QuestionRow | None], seed: int
) -> Quality | None:
    before, after, asked = [], [], list[QuestionRow]()
    for row, question in zip(rows, gold, strict=True):
        if question and row.f1_before is not None and row.f1_after is not None:
            before.append(row.f1_before)
            after.append(row.f1_after)
            asked.append(question)
    if not asked:
        return None
    return Quality(
        n=len(asked),
        before=fmean(before),
        after=fmean(after),
        difference=difference_interval(after, before, clusters(tuple(asked)), seed),
    )


def _cost(
    asked: Sequence[LoggedQuestion], ways: Sequence[Way], bare: Mapping[tuple[Arm, ...], float]
) -> Cost | None:
    """Compare medians of the log; of `bare` arms, where the log has no answer of that way."""
    spent = defaultdict(list)
    before = [tuple(attempt.arm for attempt in entry.attempts) for entry in asked]
    for path, entry in zip(before, asked, strict=True):
        if "total" in entry.timings_ms:
            spent[path].append(entry.timings_ms["total"])
    medians = {**bare, **{path: median(times) for path, times in spent.items()}}
    pairs = [
        (old, new)
        for old, new in zip(before, map(_path, ways), strict=True)
        if old in medians and new is not None and new in medians
    ]
    if not pairs:
        return None
    used = {path for pair in pairs for path in pair}
    return Cost(
        n=len(pairs),
        before=fmean(medians[old] for old, _ in pairs),
        after=fmean(medians[new] for _, new in pairs),
        medians={" → ".join(path) or "no arm": medians[path] for path in sorted(used)},
    )
