"""Another policy, tried on what was asked."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from hybridqa.engines.trace import logged
from hybridqa.eval.arms import ArmName
from hybridqa.eval.cases import Dataset
from hybridqa.eval.plan import Plan
from hybridqa.eval.replay import replay
from hybridqa.eval.replay_report import ReplayReport
from hybridqa.eval.rows import AnswerRow, DocumentRow, Manifest, QuestionRow, Run, SpanRow
from hybridqa.eval.runner import run
from hybridqa.eval.runs import LOG, read_run
from hybridqa.routing.policy import Checks, Policy, Rule, Thresholds
from hybridqa.stores.question_log import LoggedQuestion, QuestionLog, read_log
from hybridqa.testing import FakeGenerator, FakeInternalizer, FakeSystem
from hybridqa.types import Arm, Document, Style
from hybridqa.wiring import load_policy

CODE, CAT = "What is the gate code?", "What is the cat called?"
NOW, GUERNICA = "What is the gate code right now?", "Who painted Guernica?"
WALNUT, MIMI = "The gate code is walnut.", "The cat is called Mimi."
SHIPPED = load_policy("default")
DEFAULT = replace(SHIPPED, thresholds=replace(SHIPPED.thresholds, min_confidence=0.2))
"""Checks confidence besides, of which the shipped policy asks nothing."""


class Logged:
    """A system with fakes for models, all that it is asked kept."""

    def __init__(self, folder: Path) -> None:
        self.system = FakeSystem(folder)
        self.log = QuestionLog(folder / "questions.jsonl", self.system.catalog.live_hashes)
        for id, text in (("gate.md", WALNUT), ("cat.md", MIMI)):
            document = Document(id=id, text=text, title="Notes", source=id)
            self.system.ingestor().ingest(document, FakeInternalizer())

    def ask(self, question: str, policy: Policy = DEFAULT, **asked: Any) -> None:
        system = self.system
        system.policy = policy
        trace = system.answerer().trace(question, **asked)
        self.log.append(logged(trace, policy.name, system.generator.model_fingerprint))

    def read(self) -> list[LoggedQuestion]:
        return read_log(self.log.path)


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Logged]:
    home = Logged(tmp_path)
    yield home
    home.system.close()


def arm_always(arm: str, **changes: Any) -> Policy:
    return replace(DEFAULT, name=arm, rules=(RULES[arm],), **changes)


def rule(arm: str) -> Rule:
    return Rule(**{"if": "always", "then": arm, "because": f"a test wants `{arm}`"})


RULES = {arm.value: rule(arm.value) for arm in Arm}


def at_least(**thresholds: float) -> Policy:
    return replace(DEFAULT, name="changed", thresholds=replace(DEFAULT.thresholds, **thresholds))


def generator(confidence: float = 0.9, alone: float = 0.9, answer: Any = None) -> FakeGenerator:
    """Return one whose confidence is `alone` where it has nothing to read."""
    more = {"answer": answer} if answer else {}
    return FakeGenerator(confidence=lambda prompt: confidence if prompt.passages else alone, **more)


def changes(report: ReplayReport) -> list[tuple[str, str, str]]:
    return [(row.question, str(row.arm_before), str(row.arm_after)) for row in report.changes]


# The same policy


def silent(question: str, texts: Sequence[str]) -> str:
    return ""


def made_up(question: str, texts: Sequence[str]) -> str:
    return "Elephants fly"


FREE = replace(DEFAULT, name="free", style=Style.FREE)


@pytest.mark.parametrize("policy", [DEFAULT, FREE, *map(arm_always, RULES)], ids=lambda it: it.name)
def test_the_same_policy_changes_nothing(home: Logged, policy: Policy) -> None:
    generators = [
        generator(),
        generator(alone=0.1),  # adapters are dropped
        generator(confidence=0.4),  # what was read is withheld
        generator(confidence=0.1, alone=0.1),
        generator(answer=silent),
        generator(answer=made_up),
    ]
    for home.system.generator in generators:
        for question in (CODE, NOW, GUERNICA):
            home.ask(question, policy)
            home.ask(question, policy, style=Style.FREE)
    home.ask(CODE, arm=Arm.BASE)
    log = home.read()
    assert {entry.abstained for entry in log} == {True, False}

    report = replay(log, policy)

    assert report.changes == ()
    assert (len(report.rows), report.forced, report.failed) == (36, 1, 0)
    assert report.as_dict()["unknown"] == 0
    for row, entry in zip(report.rows, log, strict=False):
        assert row.settled
        assert (row.arm_after, row.reasons) == (entry.arm, entry.reasons)
        assert (row.answer_after, row.abstained_after) == (entry.answer, entry.abstained)


def test_all_routes_were_among_these(home: Logged) -> None:
    """What the test above rests on."""
    for home.system.generator in (generator(), generator(alone=0.1), generator(0.1, 0.1)):
        for question in (CODE, NOW, GUERNICA):
            home.ask(question)

    ways = {(e.route, e.arm, len(e.attempts), e.abstained) for e in home.read()}
    assert ways == {
        (Arm.ADAPTER, Arm.ADAPTER, 1, False),
        (Arm.ADAPTER, Arm.RETRIEVAL, 2, False),
        (Arm.ADAPTER, Arm.RETRIEVAL, 2, True),
        (Arm.RETRIEVAL, Arm.RETRIEVAL, 1, False),
        (Arm.RETRIEVAL, Arm.RETRIEVAL, 1, True),
        (Arm.RETRIEVAL, Arm.RETRIEVAL, 0, True),
    }


@pytest.mark.parametrize("arm", ["adapter", "both"])
def test_a_damaged_adapter_changes_nothing_either(home: Logged, tmp_path: Path, arm: str) -> None:
    for adapter in home.system.catalog.adapters():
        (tmp_path / "adapters" / adapter.id / "adapter_model.safetensors").write_bytes(b"junk")
    home.ask(CODE, arm_always(arm))

    report = replay(home.read(), arm_always(arm))

    [row] = report.rows
    assert not row.changed
    assert (row.arm_after, row.answer_after) == (Arm.RETRIEVAL, WALNUT)
    assert row.reasons == home.read()[0].reasons


def test_recent_is_counted_from_the_time_of_asking(home: Logged) -> None:
    changed = Document(id="cat.md", text=f"{MIMI} She is old.", title="Notes", source="cat.md")
    home.system.now += timedelta(days=400)
    home.system.ingestor().ingest(changed, FakeInternalizer())
    home.system.now += timedelta(days=10)
    home.ask(CAT)
    home.system.now += timedelta(days=10)
    home.ask(CAT)
    assert [entry.route for entry in home.read()] == [Arm.RETRIEVAL, Arm.ADAPTER]

    assert replay(home.read(), DEFAULT).changes == ()
    longer = replay(home.read(), at_least(recent_days=30))
    assert changes(longer) == [(CAT, "adapter", "retrieval")]
    assert replay(home.read(), at_least(recent_days=5)).as_dict()["changed_arm"] == 1


# Stricter and looser


def test_a_stricter_check_drops_exactly_what_falls_below_it(home: Logged) -> None:
    home.system.generator = generator(alone=0.5)
    home.ask(CODE)
    home.system.generator = generator(alone=0.7)
    home.ask(CAT)
    home.ask(NOW)

    report = replay(home.read(), at_least(min_confidence=0.6))

    assert changes(report) == [(CODE, "adapter", "retrieval")]
    [row] = report.changes
    assert row.why[-2:] == (
        "the adapter's confidence is 0.50, below 0.6",
        "fell back to retrieval",
    )
    assert row.settled
    assert (row.answer_before, row.answer_after, row.abstained_after) == (WALNUT, None, None)


def test_a_looser_check_gives_what_was_dropped(home: Logged) -> None:
    home.system.generator = generator(alone=0.15)
    home.ask(CODE)
    home.system.generator = generator(alone=0.05)
    home.ask(CAT)

    report = replay(home.read(), at_least(min_confidence=0.1))

    assert changes(report) == [(CODE, "retrieval", "adapter")]
    assert report.changes[0].answer_after == WALNUT
    found = report.as_dict()
    assert (found["changed"], found["changed_known"], found["unknown"]) == (1, 1, 0)
    assert (found["arms_before"], found["arms_after"]) == (
        {"retrieval": 2},
        {"adapter": 1, "retrieval": 1},
    )


def test_answers_are_withheld_and_given_by_the_new_threshold(home: Logged) -> None:
    home.system.generator = generator(confidence=0.6)
    home.ask(NOW)
    home.system.generator = generator(confidence=0.15, alone=0.1)
    home.ask(CODE)

    stricter = replay(home.read(), at_least(min_retrieval_confidence=0.7)).changes
    looser = replay(home.read(), at_least(min_retrieval_confidence=0.1)).changes

    assert [(row.answer_before, row.answer_after) for row in stricter] == [(WALNUT, "")]
    assert stricter[0].reasons[-1] == "the answer's confidence is 0.60, below 0.7"
    assert [(row.answer_before, row.answer_after) for row in looser] == [("", WALNUT)]


def test_without_evidence_nothing_is_answered_and_that_is_known(home: Logged) -> None:
    home.ask(CODE)

    [row] = replay(home.read(), at_least(min_similarity=1.0)).changes

    assert (row.arm_after, row.abstained_after, row.answer_after) == (Arm.RETRIEVAL, True, "")
    assert row.reasons[-1] == "no passage bears on the question"


def test_an_adapter_that_was_not_tried_is_not_settled(home: Logged) -> None:
    home.ask(NOW)

    report = replay(home.read(), arm_always("adapter"))

    [row] = report.changes
    assert (row.arm_before, row.arm_after, row.settled) == (Arm.RETRIEVAL, Arm.ADAPTER, False)
    assert row.answer_after is None
    assert report.as_dict()["changed_known"] == 0
    assert report.cost is None


def test_support_that_was_not_measured_decides_nothing_by_guess(home: Logged) -> None:
    trusting = replace(DEFAULT, checks=Checks(support=False))
    home.system.generator = generator(alone=0.5)
    home.ask(CODE, trusting)

    [unknown] = replay(home.read(), DEFAULT).rows
    assert (unknown.arm_after, unknown.settled, unknown.answer_after) == (Arm.ADAPTER, False, None)
    [dropped] = replay(home.read(), at_least(min_confidence=0.6)).rows
    assert (dropped.arm_after, dropped.settled) == (Arm.RETRIEVAL, True)
    assert not any("supports" in reason for reason in dropped.reasons)


def test_what_an_adapter_would_say_that_was_not_asked_is_unknown(home: Logged) -> None:
    home.ask(CODE, FREE)
    [entry] = home.read()
    [attempt] = entry.attempts
    shut = replace(attempt, text="", abstained=True, cited=False, relevance=0.1, asked=False)
    looser = replace(FREE, thresholds=replace(FREE.thresholds, min_relevance=0.05))

    [same] = replay([replace(entry, attempts=(shut,))], FREE).rows
    [asked] = replay([replace(entry, attempts=(shut,))], looser).rows

    assert any("bears on the question by 0.10, below 0.2" in reason for reason in same.reasons)
    assert same.arm_after is Arm.RETRIEVAL
    assert (asked.arm_after, asked.settled) == (Arm.ADAPTER, False)


def test_what_a_model_would_say_of_passages_that_were_not_read_is_unknown(home: Logged) -> None:
    home.ask(NOW, FREE)
    [entry] = home.read()
    [attempt] = entry.attempts
    shut = replace(attempt, text="", abstained=True, cited=False, relevance=0.3, asked=False)
    silent = replace(shut, relevance=0.7, asked=True)  # the model was asked, and said nothing
    looser = replace(FREE, thresholds=replace(FREE.thresholds, silent_from=0.8))

    [same] = replay([replace(entry, attempts=(shut,))], FREE).rows
    [asked] = replay([replace(entry, attempts=(shut,))], looser).rows
    [known] = replay([replace(entry, attempts=(silent,))], FREE).rows
    [stricter] = replay([replace(entry, attempts=(replace(attempt, relevance=0.3),))], FREE).rows

    assert any("nothing read answers by 0.70, above 0.6" in reason for reason in same.reasons)
    assert (same.answer_after, asked.answer_after) == ("", None)
    assert known.answer_after == ""
    assert (stricter.settled, stricter.answer_after) == (True, "")


def test_another_style_would_answer_in_words_that_nobody_knows(home: Logged) -> None:
    home.ask(NOW)
    home.ask(NOW, style=Style.QUOTE)  # the caller's own choice, whatever the policy

    report = replay(home.read(), replace(DEFAULT, style=Style.FREE))

    assert [row.answer_after for row in report.rows] == [None, WALNUT]
    assert report.changes == ()
    assert "neither the log nor a run has it, in the style `free`" in report.markdown()


def test_what_was_redacted_is_routed_but_not_known(home: Logged) -> None:
    home.ask(CODE)
    home.ask(GUERNICA)
    with home.log.forgetting("gate.md"):
        pass

    same = replay(home.read(), DEFAULT)
    stricter = replay(home.read(), at_least(min_confidence=0.95))

    assert same.changes == ()
    assert same.redacted >= 1
    assert same.rows[0].answer_before is same.rows[0].answer_after is None
    assert changes(stricter) == [(CODE, "adapter", "retrieval")]


def test_errors_are_left_out(home: Logged) -> None:
    home.ask(CODE)
    [entry] = home.read()

    report = replay([replace(entry, arm=None, error="QuestionError: too long")], DEFAULT)

    assert (report.rows, report.failed) == ((), 1)
    assert report.quality is report.cost is None
    assert "0 of 0 questions change" in report.markdown()


# With what a run knows


def run_of(home: Logged, *questions: QuestionRow, answers: Sequence[AnswerRow] = ()) -> Run:
    records = home.system.catalog.list()
    manifest = Manifest(
        format=1,
        created_at="2026-11-22T12:00:00+00:00",
        complete=True,
        command="",
        data="",
        data_sha256="",
        questions=len(questions),
        documents=len(records),
        limit=None,
        seed=0,
        arms=("retrieval+quote", "adapter+quote", "adapter"),
        metrics=("f1",),
        evidence="",
        timed=0,
        policy={},
        config={},
        model={"fingerprint": "fake-model"},
    )
    documents = tuple(
        DocumentRow(
            id=record.document.id,
            title="",
            source="",
            text=record.document.text,
            content_hash=record.document.content_hash,
        )
        for record in records
    )
    return Run(
        path="",
        manifest=manifest,
        documents=documents,
        questions=tuple(replace(each, retrieved=_found(home, each.question)) for each in questions),
        answers=tuple(answers),
        scores=(),
    )


def _found(home: Logged, question: str) -> tuple[SpanRow, ...]:
    hits = home.system.retriever().search(question, home.system.passages)
    return tuple(
        SpanRow(document=hit.chunk.document_id, start=hit.chunk.start, end=hit.chunk.end)
        for hit in hits
    )


def question(id: str, text: str, *answers: str) -> QuestionRow:
    return QuestionRow(id=id, question=text, answers=answers, documents=(f"{id}.md",))


def answer(home: Logged, id: str, arm: str, text: str, **more: Any) -> AnswerRow:
    [adapter] = home.system.catalog.adapters(f"{id}.md")
    cited: Any = {"document": f"{id}.md", "start": 0, "end": 1, "quote": "", "score": 1}
    return AnswerRow(
        question=id,
        arm=arm,
        answer=text,
        confidence=0.8,
        route=arm.removesuffix("+quote"),
        citations=({**cited, "verified": "verbatim"},) if text else (),
        adapter=adapter.id if arm.startswith("adapter") else None,
        timings_ms={"total": 50.0},
        **more,
    )


def test_a_run_knows_what_is_right_and_what_was_not_tried(home: Logged) -> None:
    home.system.generator = generator(alone=0.5)
    for asked in (CODE, CAT, GUERNICA):
        home.ask(asked)
    made = run_of(
        home,
        question("gate", CODE, WALNUT),
        question("cat", f" {CAT}", "Felix"),
        QuestionRow(id="none", question=GUERNICA, answers=(), documents=()),
        answers=[answer(home, "gate", "retrieval+quote", "It rained.")],
    )

    report = replay(home.read(), at_least(min_confidence=0.6), made)

    gate, cat, none = report.rows
    assert (gate.answer_after, gate.f1_before, gate.f1_after) == ("It rained.", 1, 0)
    assert (cat.answer_after, cat.f1_before, cat.f1_after) == (None, 0, None)
    assert (none.f1_before, none.f1_after) == (1, 1)  # no document says, and none is made to
    quality = report.quality
    assert quality is not None
    assert (quality.n, quality.before, quality.after, quality.difference.mean) == (2, 1, 0.5, -0.5)
    assert quality.difference.low <= -0.5 <= quality.difference.high


@pytest.mark.parametrize("other", ["model", "texts", "found", "adapter", "style", "error", "twice"])
def test_answers_to_something_else_do_not_count(home: Logged, other: str) -> None:
    trusting = Checks(support=False)
    home.ask(NOW, replace(DEFAULT, checks=trusting))
    row = answer(home, "gate", "adapter+quote", WALNUT)
    asked = question("gate", NOW, WALNUT)
    good = run_of(home, asked, answers=[row])
    bad = {
        "model": replace(good, manifest=replace(good.manifest, model={"fingerprint": "other"})),
        "texts": replace(good, documents=good.documents[:1]),
        "found": replace(good, questions=(replace(good.questions[0], retrieved=()),)),
        "adapter": replace(good, answers=(replace(row, adapter="f" * 64),)),
        "style": replace(good, answers=(replace(row, arm="adapter"),)),
        "error": replace(good, answers=(replace(row, answer="", error="too long"),)),
        "twice": replace(good, questions=(asked, question("cat", NOW, MIMI))),
    }[other]
    policy = arm_always("adapter", checks=trusting)

    assert [row.answer_after for row in replay(home.read(), policy, good).rows] == [WALNUT]
    assert [row.answer_after for row in replay(home.read(), policy, bad).rows] == [None]


def test_an_adapters_answer_from_a_run_is_unknown_where_its_support_decides(home: Logged) -> None:
    home.ask(NOW)
    made = run_of(
        home,
        question("gate", NOW, WALNUT),
        answers=[answer(home, "gate", "adapter+quote", WALNUT)],
    )

    [row] = replay(home.read(), arm_always("adapter"), made).rows
    doubtful = arm_always("adapter", thresholds=Thresholds(min_confidence=0.95))
    [dropped] = replay(home.read(), doubtful, made).rows

    assert (row.answer_after, row.settled) == (None, False)
    assert (dropped.arm_after, dropped.answer_after) == (Arm.RETRIEVAL, WALNUT)


def test_time_is_compared_by_the_medians_of_ways(home: Logged) -> None:
    home.system.generator = generator(alone=0.5)
    for asked in (CODE, CAT, NOW):
        home.ask(asked)
    spent = {CODE: 10.0, CAT: 30.0, NOW: 100.0}
    log = [replace(entry, timings_ms={"total": spent[entry.question]}) for entry in home.read()]

    always = replay(log, arm_always("retrieval"), None)

    assert always.cost is not None
    assert always.cost.n == 3
    assert always.cost.medians == {"adapter": 20.0, "retrieval": 100.0}
    assert (always.cost.before, always.cost.after) == (pytest.approx(140 / 3), 100)

    [only] = [entry for entry in log if entry.question == CODE]
    unknown = replay([only], arm_always("retrieval"))
    assert unknown.cost is None
    made = run_of(
        home,
        question("gate", CODE),
        answers=[answer(home, "gate", "retrieval+quote", WALNUT)],
    )
    told = replay([only], arm_always("retrieval"), made).cost
    assert told is not None
    assert (told.before, told.after) == (10, 50)
    untimed = replace(made, answers=(replace(made.answers[0], timings_ms={}),))
    assert replay([only], arm_always("retrieval"), untimed).cost is None


def test_a_run_replays_its_own_log(homes: Any, rivers: Dataset, tmp_path: Path) -> None:
    arms = (ArmName.RETRIEVAL, ArmName.AUTO)
    plan = Plan(dataset=rivers, arms=arms, metrics=("f1",), timed=5)
    run(homes.config, plan, tmp_path / "run", open_home=homes)
    made = read_run(tmp_path / "run")

    log = read_log(tmp_path / "run" / LOG)
    same, always = (replay(log, p, made) for p in (DEFAULT, arm_always("retrieval")))

    assert same.changes == ()
    assert same.quality is not None
    assert same.quality.n == len(rivers.cases)
    f1 = [value or 0 for value in made.table("f1")["auto"]]
    assert same.quality.after == same.quality.before == pytest.approx(sum(f1) / len(f1))
    assert always.as_dict()["unknown"] == 0
    assert always.cost is not None


# How it is shown


def test_all_findings_are_told(home: Logged) -> None:
    home.system.generator = generator(alone=0.15)
    home.ask("What is the gate code [b]now|then[/b]?\n")
    for _ in range(25):
        home.ask(CODE)
    home.ask(CODE, arm=Arm.BASE)
    made = run_of(home, question("gate", CODE, WALNUT))

    report = replay(home.read(), at_least(min_confidence=0.1), made)

    told = report.markdown()
    assert "Under `changed`, 25 of 26 questions change, 25 of them the arm" in told
    assert "before: retrieval 26; after: adapter 25, retrieval 1" in told
    assert "F1 of the 25 questions known under both: 1.000, then 1.000" in told
    assert "Left out: 1 whose arm the caller chose" in told
    assert f"| {CODE} | retrieval → adapter | “{WALNUT}” → “{WALNUT}” |" in told
    assert "5 more change; `--json` lists all." in told
    assert len(report.as_dict()["changes"]) == 25
    assert asdict(report.changes[0]) == report.as_dict()["changes"][0]
