from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from hybridqa.config import load_yaml, validate
from hybridqa.errors import ConfigError
from hybridqa.routing.policy import Condition, Policy
from hybridqa.types import Arm, Style

POLICIES = sorted(Path(str(files("hybridqa"))).joinpath("configs", "policy").glob("*.yaml"))
ALWAYS = {"if": "always", "then": "retrieval", "because": "in doubt"}


def policy(*rules: dict[str, Any], **more: Any) -> Policy:
    data = {"name": "test", "description": "a test", "rules": [*rules, ALWAYS], **more}
    return validate(Policy, data, "test.yaml")


@pytest.mark.parametrize("path", POLICIES, ids=lambda path: path.stem)
def test_shipped_policies_load_and_say_how_to_use_them(path: Path) -> None:
    loaded = load_yaml(Policy, path)

    assert loaded.name == path.stem
    assert loaded.rules[0].when == (Condition.NO_EVIDENCE,)
    assert loaded.rules[0].then is Arm.RETRIEVAL
    assert path.read_text(encoding="utf-8").startswith("# The policy for ")


def test_three_policies_are_shipped() -> None:
    assert [path.stem for path in POLICIES] == ["default", "prefer-adapter", "strict-citation"]


def test_one_phrase_or_a_list_of_phrases() -> None:
    both = ["the document is stable", "there is a live adapter"]

    loaded = policy(
        {"if": both, "then": "adapter", "because": "x"},
        {"if": "the document is volatile", "then": "both", "because": "x"},
    )

    assert loaded.rules[0].when == (Condition.STABLE, Condition.ADAPTER)
    assert loaded.rules[1].when == (Condition.VOLATILE,)
    assert loaded.style is Style.QUOTE


def test_an_unknown_phrase_is_answered_with_all_phrases() -> None:
    with pytest.raises(ConfigError, match=r"rules\.0\.if\.0") as caught:
        policy({"if": "the moon is full", "then": "adapter", "because": "x"})

    assert "the moon is full" in str(caught.value)
    assert all(condition in str(caught.value) for condition in Condition)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"colour": "red"}, "colour"),
        ({"thresholds": {"volatile": 0.5}}, "thresholds.volatile"),
        ({"thresholds": {"volatile_above": "high"}}, "thresholds.volatile_above"),
        ({"thresholds": {"volatile_above": 1.5}}, "thresholds.volatile_above"),
        ({"thresholds": {"recent_days": -1}}, "thresholds.recent_days"),
        ({"style": "shout"}, "style"),
        ({"checks": {"support": "perhaps"}}, "checks.support"),
        ({"rules": []}, "rules"),
        ({"rules": [{**ALWAYS, "then": "abstain"}]}, "rules.0.then"),
        ({"rules": [{**ALWAYS, "else": "base"}]}, "rules.0.else"),
        ({"rules": [{"if": "always", "then": "base"}]}, "rules.0.because"),
        ({"rules": [{**ALWAYS, "if": []}]}, "rules.0.if"),
        ({"rules": [{**ALWAYS, "if": ["always", "there is evidence"]}]}, "stands alone"),
        ({"rules": [{**ALWAYS, "if": "there is evidence"}]}, "last rule must be"),
        ({"rules": [ALWAYS, ALWAYS]}, "rule 1 is `always`"),
    ],
)
def test_what_does_not_fit_is_an_error_that_names_it(change: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told.replace(".", r"\.")) as caught:
        policy(**change)

    assert "test.yaml" in str(caught.value)
