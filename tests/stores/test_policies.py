"""Stored policies."""

from concurrent.futures import ThreadPoolExecutor
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


def test_a_damaged_old_version_is_in_nobodys_way(tmp_path: Path) -> None:
    store = PolicyStore(tmp_path / "policies")
    for text in ("one", "two"):
        store.put(text)
    (tmp_path / "policies" / "000001.yaml").write_bytes(b"\xff")

    third = store.put("three", expected=2)

    assert store.current() == third
    with pytest.raises(StoreError, match=r"000001.yaml"):
        store.versions()


def test_what_is_no_version_is_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "policies"
    folder.mkdir()
    for name in (
        "notes.txt",
        "000009.yaml.new",
        "9.yaml",
        "\u0660\u0660\u0660\u0660\u0660\u0669.yaml",
    ):
        (folder / name).write_text("x")
    store = PolicyStore(folder)

    assert store.current() is None
    assert store.put("one").version == 1
    assert (folder / "notes.txt").read_text() == "x"


def test_a_folder_in_the_place_of_a_version_is_told(tmp_path: Path) -> None:
    (tmp_path / "policies" / "000001.yaml").mkdir(parents=True)

    with pytest.raises(StoreError, match="Cannot read the policies in"):
        PolicyStore(tmp_path / "policies").current()


def test_line_ends_are_kept(tmp_path: Path) -> None:
    store = PolicyStore(tmp_path / "policies")

    store.put("a\r\nb\n")

    assert [each.text for each in store.versions()] == ["a\r\nb\n"]


def test_puts_at_once_have_versions_of_their_own_and_one_wins_each(tmp_path: Path) -> None:
    store = PolicyStore(tmp_path / "policies")

    def put(number: int) -> int | None:
        try:
            return store.put(str(number), expected=0).version
        except PolicyConflictError:
            return None

    with ThreadPoolExecutor(8) as pool:
        won = [version for version in pool.map(put, range(16)) if version is not None]
        versions = sorted(pool.map(lambda number: store.put(str(number)).version, range(16)))

    assert won == [1]
    assert versions == list(range(2, 18))
