"""A home's own policy."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hybridqa.config import Config
from hybridqa.errors import ConfigError, PolicyConflictError, StoreError
from hybridqa.wiring import HybridQA, load_policy


def text(name: str) -> str:
    return (
        f"name: {name}\ndescription: A test.\n"
        "rules: [{if: always, then: retrieval, because: it is a test}]\n"
    )


def test_a_policy_that_was_put_goes_before_the_configs(tmp_path: Path) -> None:
    with HybridQA(tmp_path, Config(policy="prefer-adapter")) as qa:
        assert qa.policy == load_policy("prefer-adapter")
        assert qa.put_policy(text("mine"), expected=0).version == 1
        assert qa.policy.name == "mine"

    with HybridQA(tmp_path, Config(policy="strict-citation")) as qa:
        assert qa.policy.name == "mine"


def test_what_is_refused_is_neither_stored_nor_in_force(tmp_path: Path) -> None:
    with HybridQA(tmp_path) as qa:
        qa.put_policy(text("mine"))

        with pytest.raises(ConfigError, match="`rules`: Field required"):
            qa.put_policy("name: x")
        with pytest.raises(PolicyConflictError):
            qa.put_policy(text("late"), expected=0)

        assert qa.policy.name == "mine"
        assert [each.version for each in qa.policies.versions()] == [1]


def test_a_disk_that_refuses_leaves_the_old_one_in_force(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    with HybridQA(tmp_path / "home") as qa:
        (tmp_path / "home" / "policies").write_text("in the way")

        with pytest.raises(StoreError, match="Cannot write the policy into"):
            qa.put_policy(text("mine"))

        assert qa.policy.name == "default"


def test_of_puts_at_once_the_last_stored_is_in_force(tmp_path: Path) -> None:
    with HybridQA(tmp_path) as qa:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda number: qa.put_policy(text(f"p{number}")), range(40)))

        stored = qa.policies.current()

        assert stored is not None
        assert stored.version == 40
        assert stored.text == text(qa.policy.name)


@pytest.mark.parametrize("damage", ["name: x", "{", "a: &a [x]\nb: *a", ""])
def test_a_damaged_one_is_named_with_what_to_do(tmp_path: Path, damage: str) -> None:
    with HybridQA(tmp_path) as qa:
        qa.put_policy(text("first"))
        path = qa.put_policy(text("second")).path
    path.write_text(damage)

    with pytest.raises(StoreError, match=r"000002\.yaml` cannot be used.*remove it"):
        HybridQA(tmp_path)

    path.unlink()
    with HybridQA(tmp_path) as qa:  # which nobody holds open any more
        assert qa.policy.name == "first"


def test_aliases_are_refused_before_they_are_expanded(tmp_path: Path) -> None:
    levels = "".join(f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9)}]\n" for n in range(1, 30))

    with HybridQA(tmp_path) as qa, pytest.raises(ConfigError, match="aliases"):
        qa.put_policy("l0: &l0 x\n" + levels)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("bracket", ["{", "[", "- ", "? ", "[{"])
def test_endless_brackets_are_refused_at_once(tmp_path: Path, bracket: str) -> None:
    with HybridQA(tmp_path) as qa, pytest.raises(ConfigError, match="limit 20"):
        qa.put_policy(bracket * (65_000 // len(bracket)))


def test_a_text_over_the_limit_is_refused(tmp_path: Path) -> None:
    with HybridQA(tmp_path) as qa:
        with pytest.raises(ConfigError, match="65537 characters, limit 65536"):
            qa.put_policy(text("mine").ljust(65_537, "\n"))
        assert qa.put_policy(text("mine").ljust(65_536, "\n")).version == 1


def test_many_mistakes_are_told_briefly(tmp_path: Path) -> None:
    with HybridQA(tmp_path) as qa, pytest.raises(ConfigError, match=r"and \d+ more") as caught:
        qa.put_policy("rules: [" + "1," * 1000 + "]")

    assert len(str(caught.value)) < 3000
