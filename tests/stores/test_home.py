import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hybridqa.errors import HomeInUseError, StoreError
from hybridqa.stores.home import FORMAT_VERSION, Home

HOLD = """
import sys, time
from hybridqa.stores.home import Home
with Home(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


def hold(path: Path) -> subprocess.Popen[str]:
    """Return a process that has the home open."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_new_home_has_the_whole_layout(tmp_path: Path) -> None:
    with Home(tmp_path / "a" / "home") as home:
        assert home.index_path.is_dir()
        assert home.adapters_path.is_dir()
        assert home.catalog_path.parent == home.path
        assert (home.path / "format").read_text() == f"{FORMAT_VERSION}\n"
        assert (home.path / "lock").exists()


def test_a_home_opens_again_and_keeps_what_is_in_it(tmp_path: Path) -> None:
    with Home(tmp_path) as home:
        (home.index_path / "kept").write_text("kept")
    home.close()
    with Home(str(tmp_path)) as home:
        assert (home.index_path / "kept").read_text() == "kept"


def test_a_home_that_another_process_holds_is_refused_until_that_process_dies(
    tmp_path: Path,
) -> None:
    process = hold(tmp_path)
    try:
        with pytest.raises(HomeInUseError, match=str(tmp_path)):
            Home(tmp_path)
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    Home(tmp_path).close()


def test_a_home_opens_once_within_a_process_too(tmp_path: Path) -> None:
    with Home(tmp_path), pytest.raises(HomeInUseError):
        Home(tmp_path)


def test_a_newer_format_is_refused_and_the_lock_given_back(tmp_path: Path) -> None:
    Home(tmp_path).close()
    (tmp_path / "format").write_text("99\n")
    for _ in range(2):
        with pytest.raises(StoreError, match=r"format 99.* up to 1.*Upgrade"):
            Home(tmp_path)


def test_a_format_that_is_no_number_is_refused(tmp_path: Path) -> None:
    Home(tmp_path).close()
    (tmp_path / "format").write_text("one")
    with pytest.raises(StoreError, match="reads b'one'"):
        Home(tmp_path)


@pytest.mark.parametrize("name", ["adapters", "index", "catalog.sqlite"])
def test_a_folder_of_somebody_else_with_such_a_name_is_left_alone(
    tmp_path: Path, name: str
) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(StoreError, match=f"not a hybridqa home: it has `{name}`"):
        Home(tmp_path)
    assert not (tmp_path / "format").exists()


def test_a_crash_before_the_format_was_in_place_is_harmless(tmp_path: Path) -> None:
    (tmp_path / "lock").touch()
    (tmp_path / "format.new").write_text("")
    with Home(tmp_path) as home:
        assert home.adapters_path.is_dir()


def test_a_path_that_cannot_be_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "home"):
        with pytest.raises(StoreError, match=r"Cannot create the home directory.*--home"):
            Home(path)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder nobody can write to")
def test_an_unwritable_folder_is_refused() -> None:
    with pytest.raises(StoreError, match="Cannot write to the home directory `/proc/self`"):
        Home("/proc/self")
