"""Stored policies."""

from pathlib import Path

import pytest

from hybridqa.errors import PolicyConflictError, StoreError
from hybridqa.stores.policies import KEPT, PolicyStore


def test_the_last_one_put_is_in_force(tmp_path: Path) -> None:
    store = PolicyStore(tmp_path / "policies")
    assert store.current() is None

    store.put("one", expected=0)
    second = store.put("two", expected=1)

    assert PolicyStore(tmp_path / "policies").current() == second
    assert [(each.version, each.text) for each in store.versions()] == [(1, "one"), (2, "two")]


def test_a_conflict_changes_nothing(tmp_path: Path) -> None:
    store = PolicyStore(tmp_path / "policies")
    store.put("one")

    with pytest.raises(PolicyConflictError, match="version 1, not 0"):
        store.put("two", expected=0)

    assert len(store.versions()) == 1


def test_the_oldest_are_forgotten(tmp_path: Path) -> None:
    store = PolicyStore(tmp_path / "policies")
    for number in range(KEPT + 3):
        store.put(str(number))

    assert [each.version for each in store.versions()] == list(range(4, KEPT + 4))


def test_a_damaged_file_is_told(tmp_path: Path) -> None:
    store = PolicyStore(tmp_path / "policies")
    store.put("one")
    (tmp_path / "policies" / "000002.yaml").write_bytes(b"\xff")

    with pytest.raises(StoreError, match="Remove it to go back"):
        store.current()
