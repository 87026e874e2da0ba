from dataclasses import replace
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from hybridqa.config import load_yaml, validate
from hybridqa.errors import InputError, NoLiveAdapterError, StaleDocumentError
from hybridqa.routing.conditions import Candidate
from hybridqa.routing.decision import accept, decide
from hybridqa.routing.policy import Condition, Policy, Thresholds
from hybridqa.types import (
    AdapterRecord,
    AdapterState,
    Arm,
    Decision,
    Document,
    DocumentRecord,
    DocumentSignals,
    QuerySignals,
    Signal,
)

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
LONG_AGO = NOW - timedelta(days=400)
POLICIES = Path(str(files("hybridqa"))) / "configs" / "policy"
DEFAULT = load_yaml(Policy, POLICIES / "default.yaml")
STRICT = load_yaml(Policy, POLICIES / "strict-citation.yaml")
EAGER = load_yaml(Policy, POLICIES / "prefer-adapter.yaml")


def query(volatility: float = 0.1, citation: float = 0.1) -> QuerySignals:
    return QuerySignals(
        volatility=Signal(value=volatility, reasons=("it says `now` (+3.0)",)),
        citation_need=Signal(value=citation, reasons=("it says `quote` (+3.0)",)),
    )


def record(
    id: str = "manual.md",
    volatility: float = 0.1,
    citation: float = 0.1,
    ingested_at: datetime = LONG_AGO,
    first_ingested_at: datetime = LONG_AGO,
    **document: Any,
) -> DocumentRecord:
    return DocumentRecord(
        document=Document(id=id, text=f"Text of {id}.", title=id, source=id, **document),
        signals=DocumentSignals(
            volatility=Signal(value=volatility, reasons=("its title says so",)),
            citation_need=Signal(value=citation),
        ),
        chunks=1,
        ingested_at=ingested_at,
        first_ingested_at=first_ingested_at,
    )


def adapter(of: DocumentRecord) -> AdapterRecord:
    return AdapterRecord(
        id="0123456789abcdef",
        document_id=of.document.id,
        content_hash=of.document.content_hash,
        model_fingerprint="m",
        internalizer="associative",
        internalizer_fingerprint="f",
        task_adapter_id=None,
        rank=32,
        energy=0.9,
        shares=((0, 10),),
        good_shares=1,
        size_bytes=1,
        seconds=0.1,
        created_at=LONG_AGO,
        state=AdapterState.LIVE,
    )


def candidate(similarity: float = 0.7, live: bool = True, **more: Any) -> Candidate:
    made = record(**more)
    return Candidate(record=made, adapter=adapter(made) if live else None, similarity=similarity)


def by_default(*candidates: Candidate, of: QuerySignals | None = None, **more: Any) -> Decision:
    return decide(of or query(), candidates, DEFAULT, NOW, **more)


def policy(*rules: tuple[str | list[str], str], **thresholds: float) -> Policy:
    data = {
        "name": "test",
        "description": "a test",
        "thresholds": thresholds,
        "rules": [
            {"if": when, "then": then, "because": f"because of rule {number}"}
            for number, (when, then) in enumerate([*rules, ("always", "base")], 1)
        ],
    }
    return validate(Policy, data, "test.yaml")


def test_stable_knowledge_with_a_live_adapter_goes_to_the_adapter() -> None:
    best = candidate()

    decision = by_default(best, candidate(0.3, id="other.md"))

    assert decision.arm is Arm.ADAPTER
    assert decision.adapter == best.adapter
    assert decision.document_ids == ("manual.md", "other.md")
    assert decision.reasons[0].startswith("this is stable knowledge that needs no citation (rule 9")
    assert any("volatility of `manual.md` is 0.10, not above 0.5" in it for it in decision.reasons)


@pytest.mark.parametrize(
    ("of", "best", "phrase"),
    [
        (query(volatility=0.9), candidate(), Condition.ABOUT_PRESENT),
        (query(citation=0.9), candidate(), Condition.ASKS_FOR_SOURCE),
        (query(), candidate(volatility=0.9), Condition.VOLATILE),
        (query(), candidate(citation=0.9), Condition.MUST_BE_CITED),
        (query(), candidate(live=False), Condition.NO_ADAPTER),
        (query(), candidate(modified_at=NOW, modified_by="git"), Condition.CHANGED),
    ],
)
def test_in_doubt_the_default_policy_retrieves(
    of: QuerySignals, best: Candidate, phrase: Condition
) -> None:
    decision = by_default(best, of=of)

    assert decision.arm is Arm.RETRIEVAL
    assert decision.adapter is None
    assert decision.document_ids == ("manual.md",)
    assert f"`{phrase}`" in decision.reasons[0]


def test_reasons_carry_the_signals_own_reasons() -> None:
    decision = by_default(candidate(), of=query(volatility=0.9))

    assert decision.reasons[1] == (
        "the question's bearing on the present is 0.90, above 0.5: it says `now` (+3.0)"
    )


def test_without_evidence_retrieval_abstains_and_names_no_document() -> None:
    for candidates in ([], [candidate(similarity=0.1)], [candidate(similarity=float("nan"))]):
        decision = by_default(*candidates)

        assert decision.arm is Arm.RETRIEVAL
        assert decision.document_ids == ()
        assert decision.adapter is None
        assert "`there is no evidence`" in decision.reasons[0]


@pytest.mark.parametrize(
    ("rival", "arm", "told"),
    [
        (0.75, Arm.RETRIEVAL, "`other.md` (0.750) is nearer than `manual.md` (0.700)"),
        (0.69, Arm.RETRIEVAL, "`other.md` (0.690) is within 0.02 of `manual.md` (0.700)"),
        (0.5, Arm.ADAPTER, ""),
    ],
)
def test_a_rival_document_sends_the_question_to_retrieval(
    rival: float, arm: Arm, told: str
) -> None:
    decision = by_default(candidate(0.7), candidate(rival, id="other.md"))

    assert decision.arm is arm
    assert told in " ".join(decision.reasons)


@pytest.mark.parametrize(("similarity", "known"), [(0.25, True), (0.2499, False)])
def test_evidence_begins_at_the_threshold(similarity: float, known: bool) -> None:
    assert (by_default(candidate(similarity)).document_ids != ()) is known


@pytest.mark.parametrize(("value", "arm"), [(0.5, Arm.ADAPTER), (0.501, Arm.RETRIEVAL)])
def test_signals_must_lie_above_their_thresholds(value: float, arm: Arm) -> None:
    assert by_default(candidate(volatility=value)).arm is arm
    assert by_default(candidate(citation=value)).arm is arm
    assert by_default(candidate(), of=query(volatility=value)).arm is arm
    assert by_default(candidate(), of=query(citation=value)).arm is arm


@pytest.mark.parametrize(
    ("witness", "age", "arm"),
    [
        ("owner", timedelta(days=14), Arm.RETRIEVAL),
        ("git", timedelta(days=-1), Arm.RETRIEVAL),
        ("owner", timedelta(days=14, seconds=1), Arm.ADAPTER),
        ("filesystem", timedelta(0), Arm.ADAPTER),
        ("unknown", timedelta(0), Arm.ADAPTER),
    ],
)
def test_recent_changes_count_if_owner_or_git_tell_them(
    witness: str, age: timedelta, arm: Arm
) -> None:
    assert by_default(candidate(modified_at=NOW - age, modified_by=witness)).arm is arm


def test_a_change_that_we_saw_counts_but_the_first_ingest_does_not() -> None:
    seen = candidate(ingested_at=NOW - timedelta(days=2))
    first = candidate(ingested_at=NOW, first_ingested_at=NOW)
    past = candidate(ingested_at=NOW - timedelta(days=30))

    assert by_default(seen).arm is Arm.RETRIEVAL
    assert "2 days ago (seen at ingest)" in by_default(seen).reasons[1]
    assert by_default(first).arm is Arm.ADAPTER
    assert by_default(past).arm is Arm.ADAPTER


def test_two_documents_that_fit_alike_go_to_retrieval() -> None:
    close = candidate(0.69, id="other.md")
    far = candidate(0.6, id="other.md")

    assert by_default(candidate(0.7), close).arm is Arm.RETRIEVAL
    assert by_default(candidate(0.6), candidate(0.7, id="other.md")).arm is Arm.RETRIEVAL
    assert by_default(candidate(0.7), far).arm is Arm.ADAPTER


def test_the_first_rule_that_holds_decides() -> None:
    rules: list[tuple[str | list[str], str]] = [
        ("the document is stable", "both"),
        ("there is a live adapter", "adapter"),
    ]

    assert decide(query(), [candidate()], policy(*rules), NOW).arm is Arm.BOTH
    assert decide(query(), [candidate()], policy(*rules[::-1]), NOW).arm is Arm.ADAPTER
    assert decide(query(), [candidate(volatility=1)], policy(rules[0]), NOW).arm is Arm.BASE


def test_all_conditions_of_a_rule_must_hold() -> None:
    rules = policy((["the document is stable", "the question is not about the present"], "adapter"))

    assert decide(query(), [candidate()], rules, NOW).arm is Arm.ADAPTER
    assert decide(query(volatility=0.9), [candidate()], rules, NOW).arm is Arm.BASE


@pytest.mark.parametrize("condition", list(Condition))
def test_a_condition_and_its_opposite_never_hold_together(condition: Condition) -> None:
    members = list(Condition)[1:]
    pairs = dict(zip(members[::2], members[1::2], strict=True))
    opposites = pairs | {b: a for a, b in pairs.items()}
    worlds = [[], [candidate()], [candidate(volatility=1, citation=1, live=False)]]

    def holds(phrase: Condition, world: list[Candidate]) -> bool:
        rules = [] if phrase is Condition.ALWAYS else [(phrase.value, "retrieval")]
        return len(rules) == 0 or decide(query(), world, policy(*rules), NOW).arm is Arm.RETRIEVAL

    for world in worlds:
        if condition is Condition.ALWAYS:
            assert holds(condition, world)
        else:
            assert not (holds(condition, world) and holds(opposites[condition], world))
            assert world == [] or holds(condition, world) or holds(opposites[condition], world)


def test_without_a_document_neither_a_phrase_about_it_nor_its_opposite_holds() -> None:
    for phrase in ("the document is stable", "the document is volatile"):
        assert decide(query(), [], policy((phrase, "retrieval")), NOW).arm is Arm.BASE


def test_a_rule_that_wants_a_missing_adapter_yields_retrieval() -> None:
    rules = policy(("the document is stable", "both"))

    decision = decide(query(), [candidate(live=False)], rules, NOW)

    assert decision.arm is Arm.RETRIEVAL
    assert decision.reasons[-1] == ("retrieval instead of `both`: `manual.md` has no live adapter")


def test_the_callers_arm_overrides_all_rules() -> None:
    volatile = candidate(volatility=1, citation=1)

    for arm in Arm:
        decision = by_default(volatile, arm=arm)
        assert decision.arm is arm
        assert decision.reasons[0] == "the caller asked for it"
        assert decision.document_ids == ("manual.md",)
        assert (decision.adapter is not None) is (arm in {Arm.ADAPTER, Arm.BOTH})


def test_a_forced_retrieval_without_evidence_still_abstains() -> None:
    assert by_default(candidate(0.1), arm=Arm.RETRIEVAL).document_ids == ()
    assert by_default(candidate(0.1), arm=Arm.ADAPTER).document_ids == ("manual.md",)


@pytest.mark.parametrize("arm", [Arm.ADAPTER, Arm.BOTH])
def test_a_forced_adapter_that_is_not_there_is_an_error_with_a_remedy(arm: Arm) -> None:
    with pytest.raises(NoLiveAdapterError, match=r"`manual\.md`.*--internalizer associative"):
        by_default(candidate(live=False), arm=arm)
    with pytest.raises(InputError, match="no document fits"):
        by_default(arm=arm)


def test_an_adapter_of_another_revision_document_or_state_is_refused() -> None:
    made = record()
    good = adapter(made)

    for wrong in (
        replace(good, content_hash="0" * 64),
        replace(good, document_id="other.md"),
        replace(good, state=AdapterState.RETIRED),
    ):
        with pytest.raises(StaleDocumentError, match=r"manual\.md"):
            Candidate(record=made, adapter=wrong, similarity=0.7)


def test_strict_citation_sees_need_early() -> None:
    assert decide(query(citation=0.4), [candidate()], STRICT, NOW).arm is Arm.RETRIEVAL
    assert decide(query(), [candidate(citation=0.4)], STRICT, NOW).arm is Arm.RETRIEVAL
    assert decide(query(), [candidate()], STRICT, NOW).arm is Arm.ADAPTER


def test_prefer_adapter_wears_it_unless_something_is_volatile() -> None:
    assert decide(query(citation=0.9), [candidate(citation=1)], EAGER, NOW).arm is Arm.ADAPTER
    assert decide(query(), [candidate(volatility=0.9)], EAGER, NOW).arm is Arm.RETRIEVAL
    assert decide(query(), [candidate(live=False)], EAGER, NOW).arm is Arm.RETRIEVAL


@pytest.mark.parametrize(
    ("confidence", "support", "accepted"),
    [
        (0.2, 0.4, True),
        (0.199, 0.9, False),
        (0.9, 0.399, False),
        (0.1, 0.0, False),
        (float("nan"), 0.9, False),
        (0.9, float("nan"), False),
    ],
)
def test_an_adapters_answer_must_be_confident_and_supported(
    confidence: float, support: float, accepted: bool
) -> None:
    wary = replace(DEFAULT, thresholds=Thresholds(min_confidence=0.2, min_support=0.4))

    verdict, reasons = accept(confidence, support, wary)

    assert verdict is accepted
    assert len(reasons) == (not confidence >= 0.2) + (not support >= 0.4)


def test_checks_can_be_switched_off() -> None:
    data = {"confidence": False, "support": False}
    trusting = replace(DEFAULT, checks=validate(type(DEFAULT.checks), data, "test.yaml"))

    assert accept(0.0, 0.0, trusting) == (True, [])
