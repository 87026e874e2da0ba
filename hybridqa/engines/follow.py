"""From a decision to an answer: what the checks make of attempts, and the way back to retrieval.

Pure. Answering follows a decision with attempts of the model, replay with those that the question
log remembers: one code, so that the two cannot drift apart.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from hybridqa.protocols import Generation
from hybridqa.routing.decision import accept
from hybridqa.routing.policy import Policy
from hybridqa.types import Arm, Attempt, Citation, Decision

_READING = frozenset({Arm.RETRIEVAL, Arm.BOTH})


@dataclass(frozen=True, kw_only=True)
class Way:
    """Where a decision led."""

    arm: Arm
    """Of the answer."""
    attempts: Sequence[Attempt]
    """Judged, in order; the last is the answer's, unless it was not even tried."""
    reasons: Sequence[str]
    known: bool
    """False where the next attempt, under `arm`, is not known."""

    @property
    def given(self) -> Attempt | None:
        """The attempt that was given as the answer; none if it abstains (or is not known)."""
        last = self.attempts[-1] if self.known and self.attempts else None
        return last if last and last.accepted else None


def follow(
    decision: Decision,
    attempt: Callable[[Arm], Attempt | None],
    policy: Policy,
    forced: bool = False,
) -> Way:
    """Follow a decision to its answer.

    Args:
        decision: Of the router.
        attempt: Tries an arm; `None` if what it would say is not known.
        policy: Says what is checked.
        forced: The caller chose the arm: there is no other.
    """
    arm, reasons = decision.arm, tuple(decision.reasons)
    if arm in _READING and not decision.document_ids:
        reasons = (*reasons, "no passage bears on the question")
        return Way(arm=arm, attempts=(), reasons=reasons, known=True)
    first = attempt(arm)
    if first is None:
        return Way(arm=arm, attempts=(), reasons=reasons, known=False)
    first = checked(first, policy, forced)
    reasons = (*reasons, *first.reasons)
    if forced or not _gives_way(first):
        return Way(arm=arm, attempts=(first,), reasons=reasons, known=True)
    reasons = (*reasons, "fell back to retrieval")
    second = attempt(Arm.RETRIEVAL)
    if second is None:
        return Way(arm=Arm.RETRIEVAL, attempts=(first,), reasons=reasons, known=False)
    second = checked(second, policy)
    reasons = (*reasons, *second.reasons)
    return Way(arm=Arm.RETRIEVAL, attempts=(first, second), reasons=reasons, known=True)


def attempted(
    arm: Arm,
    made: Generation,
    citation: Citation | None,
    milliseconds: float,
    support: float | None = None,
) -> Attempt:
    """Return what a model generated under an arm, not judged yet.

    Args:
        arm: That it was asked under.
        made: By the generator.
        citation: For it, if any was found.
        milliseconds: It took.
        support: As in `Attempt`.
    """
    return Attempt(
        arm=arm,
        text=" ".join(made.text.split()),
        abstained=made.abstained,
        cited=citation is not None,
        confidence=made.confidence,
        support=support,
        relevance=made.relevance,
        asked=made.asked,
        milliseconds=milliseconds,
    )


def checked(attempt: Attempt, policy: Policy, forced: bool = False) -> Attempt:
    """Return the attempt, accepted or not by a policy, with what there is to say of it.

    Args:
        attempt: If its support is `None`, nothing is taken to support it.
        policy: Says what is checked.
        forced: The caller chose the arm: doubts are told, but the answer is given.
    """
    accepted, reasons = _verdict(attempt, policy, forced)
    return replace(attempt, accepted=accepted, reasons=tuple(reasons))


def _verdict(attempt: Attempt, policy: Policy, forced: bool) -> tuple[bool, list[str]]:
    if attempt.error is not None:
        return False, [attempt.error]
    if attempt.arm is Arm.BASE:
        if attempt.abstained:
            return False, ["the model gave no answer"]
        alone = "no document found supports it: this is the model's memory alone"
        return True, [] if attempt.cited else [alone]
    least = policy.thresholds.least_relevance(attempt.arm)
    if attempt.arm is Arm.ADAPTER:
        if attempt.relevance is not None and attempt.relevance < least:
            told = f"the document bears on the question by {attempt.relevance:.2f}, below {least:g}"
            return False, [f"the adapter was not asked: {told}"]
        if attempt.abstained:
            return False, ["the adapter gave no answer"]
        accepted, reasons = accept(attempt.confidence, attempt.support or 0.0, policy)
        return accepted or forced, reasons
    limit = policy.thresholds.min_retrieval_confidence
    if attempt.relevance is not None and attempt.relevance < least:
        silent_from = policy.thresholds.silent_from
        told = f"nothing read answers by {1 - attempt.relevance:.2f}, above {silent_from:g}"
        return False, [f"the model was not asked for its own words: {told}"]
    if attempt.abstained:
        return False, ["the passages do not say"]
    if not attempt.cited:
        return False, ["no passage supports what the model said"]
    if attempt.confidence < limit and not forced:
        return False, [f"the answer's confidence is {attempt.confidence:.2f}, below {limit:g}"]
    return True, []


def _gives_way(attempt: Attempt) -> bool:
    """Tell whether retrieval is asked instead."""
    return attempt.error is not None or (attempt.arm is Arm.ADAPTER and not attempt.accepted)
