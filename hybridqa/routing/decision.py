"""Choose how to answer, and tell why. Pure: no I/O, clock or model."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from hybridqa.errors import NoLiveAdapterError
from hybridqa.routing.conditions import Candidate, Situation, judge
from hybridqa.routing.policy import Condition, Policy
from hybridqa.types import AdapterRecord, Arm, Decision, QuerySignals

_WEARING = frozenset({Arm.ADAPTER, Arm.BOTH})
_TOLD_ALWAYS = (
    Condition.ABOUT_PRESENT,
    Condition.ASKS_FOR_SOURCE,
    Condition.VOLATILE,
    Condition.CHANGED,
    Condition.MUST_BE_CITED,
    Condition.NO_EVIDENCE,
    Condition.NO_ADAPTER,
)
"""What the last rule rests on: that none of these sent the question elsewhere."""


def decide(
    query: QuerySignals,
    candidates: Sequence[Candidate],
    policy: Policy,
    now: datetime,
    arm: Arm | None = None,
) -> Decision:
    """Return the arm with its reasons.

    In doubt it is retrieval: a rule that wants an adapter where none is live yields retrieval.

    Args:
        query: Of the question.
        candidates: One per document, best first; empty where nothing was found.
        policy: Its first rule that holds decides.
        now: Timezone-aware.
        arm: The caller's choice, which no rule overrides.

    Returns:
        `document_ids` is empty if there is no evidence: an answer by retrieval must then abstain.

    Raises:
        NoLiveAdapterError: `arm` wears an adapter and the first candidate has none.
    """
    situation = Situation(query=query, candidates=candidates, thresholds=policy.thresholds, now=now)
    if arm is not None:
        return _forced(arm, situation)
    chosen, reasons = _by_rule(policy, situation)
    adapter = situation.document.adapter if situation.document else None
    if chosen in _WEARING and adapter is None:
        absent = judge(Condition.NO_ADAPTER, situation)
        reasons.append(f"retrieval instead of `{chosen}`: {absent.reason if absent else ''}")
        chosen = Arm.RETRIEVAL
    return _decision(
        chosen, reasons, situation, adapter, candidates if situation.has_evidence else ()
    )


def _forced(arm: Arm, situation: Situation) -> Decision:
    reasons = ["the caller asked for it"]
    best = situation.candidates[0] if situation.candidates else None
    adapter = best.adapter if best else None
    if arm in _WEARING:
        if adapter is None:
            raise NoLiveAdapterError(arm, best.record.document.id if best else None)
        return _decision(arm, reasons, situation, adapter, situation.candidates)
    if not situation.has_evidence and (absent := judge(Condition.NO_EVIDENCE, situation)):
        reasons.append(f"there is no evidence: {absent.reason}")
        return _decision(arm, reasons, situation, None, ())
    return _decision(arm, reasons, situation, None, situation.candidates)


def _by_rule(policy: Policy, situation: Situation) -> tuple[Arm, list[str]]:
    for number, rule in enumerate(policy.rules, 1):
        findings = [judge(condition, situation) for condition in rule.when]
        if not all(finding is not None and finding.holds for finding in findings):
            continue
        phrases = " and ".join(f"`{condition}`" for condition in rule.when)
        reasons = [f"{rule.because} (rule {number} of policy `{policy.name}`: {phrases})"]
        if rule.when == (Condition.ALWAYS,):
            findings = [judge(condition, situation) for condition in _TOLD_ALWAYS]
        return rule.then, reasons + [finding.reason for finding in findings if finding]
    raise AssertionError("unreachable: a policy's last rule is `always`")


def _decision(
    arm: Arm,
    reasons: Sequence[str],
    situation: Situation,
    adapter: AdapterRecord | None,
    named: Sequence[Candidate],
) -> Decision:
    return Decision(
        arm=arm,
        reasons=tuple(reasons),
        document_ids=tuple(candidate.record.document.id for candidate in named),
        adapter=adapter if arm in _WEARING else None,
        query=situation.query,
    )


def accept(confidence: float, support: float, policy: Policy) -> tuple[bool, list[str]]:
    """Return whether an adapter's answer may be given, and why it may not.

    Args:
        confidence: Of the answer, in [0, 1].
        support: How likely a reader of the evidence finds the answer, in [0, 1]; 0 where the
            answer is not in the evidence.
        policy: Says which checks are made.
    """
    reasons = []
    limit = policy.thresholds.min_confidence
    if policy.checks.confidence and not confidence >= limit:
        reasons.append(f"the adapter's confidence is {confidence:.2f}, below {limit:g}")
    limit = policy.thresholds.min_support
    if policy.checks.support and not support >= limit:
        reasons.append(
            f"the evidence supports the adapter's answer by {support:.2f}, below {limit:g}"
        )
    return not reasons, reasons
