"""Facts told otherwise: whose value is answered, under each arm."""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from hybridqa.config import AnswerConfig, Config
from hybridqa.errors import DocumentTooLongError, InputError
from hybridqa.eval.metrics.text import mentions
from hybridqa.eval.probes.conflict import Said, grids, run_conflict, said_in
from hybridqa.eval.probes.facts import facts
from hybridqa.testing import FakeGenerator

SHORT = Config(answer=AnswerConfig(max_tokens=4))


def believer(question: str, texts: Sequence[str]) -> str:
    """Answer what the texts say, or without any as the world does, but for capitals."""
    if any(texts):
        return next(fact.value for fact in facts() if mentions(" ".join(texts), fact.value))
    fact = next(fact for fact in facts() if fact.question == question)
    return "I do not know." if fact.kind == "capital" else fact.world[0]


@pytest.fixture
def believing(lab_homes: Any) -> Any:
    lab_homes.generator = FakeGenerator(believer, model_fingerprint=lab_homes.base.fingerprint)
    return lab_homes


def test_whose_value_is_answered(believing: Any) -> None:
    report = run_conflict(believing.config, open_home=believing)
    arms = {arm.arm: arm for arm in report.arms()}
    count = len(facts())

    assert {arm.asked for arm in arms.values()} == {count}
    assert arms["adapter"].counts["document"] == arms["context"].counts["document"] == count
    assert arms["wrong-adapter"].counts["document"] == 0
    assert arms["base"].counts == {"document": 0, "world": count - 10, "both": 0, "neither": 10}
    known = {arm.arm: arm for arm in report.arms(known_only=True)}
    assert {arm.asked for arm in known.values()} == {count - 10}

    told = json.loads(json.dumps(report.as_dict()))
    assert told["facts"] == count
    assert told["arms"][0]["else"]["mean"] == pytest.approx(10 / count)
    assert told["known_arms"][0]["world"]["mean"] == 1
    assert told["arms"][2]["document"]["low"] > 0.9
    assert (told["seed"], told["model"]["internalizer"]) == (0, "associative")
    every, of_these = grids(report)
    assert "Of these, the 32 that" in of_these.title
    assert [row[0] for row in every.rows] == ["base", "context", "adapter", "wrong-adapter"]
    assert every.rows[2][1].startswith("100% (92")


def test_a_wrong_adapter_is_another_facts(believing: Any) -> None:
    run_conflict(believing.config, ["wrong-adapter"], limit=4, seed=1, open_home=believing)
    first = list(believing.associative.calls)
    run_conflict(believing.config, ["adapter"], limit=4, seed=1, open_home=believing)

    assert first[:3] == believing.associative.calls[5:]
    assert first[0] != believing.associative.calls[4]


def test_what_could_not_be_asked_is_told(believing: Any) -> None:
    def refuse(document: Any, chunks: Any) -> Any:
        raise DocumentTooLongError(document.id, 9, 8)

    believing.associative.internalize = refuse
    report = run_conflict(believing.config, ["base", "adapter"], limit=3, open_home=believing)
    base, adapter = report.arms()

    assert (base.asked, adapter.asked, adapter.refused) == (3, 0, 3)
    assert adapter.share(Said.DOCUMENT) is None
    assert "3: Document `fact-" in grids(report)[0].rows[1][4]
    json.dumps(report.as_dict())


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("Lyon.", Said.DOCUMENT),
        ("It is Paris", Said.WORLD),
        ("Not Paris but Lyon", Said.BOTH),
        ("Marseille", Said.NEITHER),
        ("", Said.NEITHER),
    ],
)
def test_whose_value_an_answer_names(answer: str, said: Said) -> None:
    assert said_in(answer, facts()[0]) is said


def test_the_facts_are_sound() -> None:
    ids = [fact.id for fact in facts()]
    values = [fact.value for fact in facts()]

    assert len(ids) == len(set(ids)) >= 40
    assert len(values) == len(set(values))
    for fact in facts():
        text = fact.document.text
        assert mentions(text, fact.value)
        assert not any(mentions(text + fact.question, value) for value in fact.world), fact.id
        assert not mentions(fact.question, fact.value)
        assert said_in(fact.value, fact) is Said.DOCUMENT
        assert "{" not in text
        assert 40 < len(text.split()) < 120


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"arms": ["retrieval"]}, "`retrieval` has no part in this"),
        ({"arms": []}, "No arm is named"),
        ({"limit": 0}, "limit of facts must be at least 1, got 0"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
    ],
)
def test_bad_options_are_refused(believing: Any, changes: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        run_conflict(believing.config, open_home=believing, **changes)


def test_without_an_internalizer_there_is_nothing_to_measure(believing: Any) -> None:
    none = replace(believing.config.internalize, internalizer="none")
    with pytest.raises(InputError, match="internalizer: none"):
        run_conflict(replace(believing.config, internalize=none), open_home=believing)


@pytest.mark.real
def test_the_embedded_models_are_measured() -> None:
    report = run_conflict(SHORT, ["base", "adapter"], limit=2)

    assert [arm.asked for arm in report.arms()] == [2, 2]
