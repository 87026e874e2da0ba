"""The layers hold, and what `pyproject.toml` packs is what an installed user needs."""

import subprocess
import sys
import zipfile
from collections import Counter
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

ROOT = Path(__file__).parents[1]
PACKAGED = ("hybridqa", "connectors", "eval", "configs")

LOOK_AROUND = """
import importlib.util, pathlib, sys
sys.path.insert(0, sys.argv[1])
import hybridqa
assert hybridqa.__file__.startswith(sys.argv[1])
assert importlib.util.find_spec("hybridqa.connectors") and importlib.util.find_spec("hybridqa.eval")
assert not importlib.util.find_spec("connectors") and not importlib.util.find_spec("eval")
assert any(pathlib.Path(hybridqa.__file__).parent.glob("configs/**/*.yaml"))
"""


def test_imports_point_one_way() -> None:
    # In a process of its own: the linter keeps the streams that it finds at its import.
    command = [
        sys.executable,
        "-c",
        "from importlinter.cli import lint_imports_command as run; run()",
    ]

    done = subprocess.run(
        [*command, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stdout + done.stderr


def test_every_folder_of_modules_is_a_package() -> None:
    # The linter of layers would pass over any other without a word.
    folders = {module.parent for top in PACKAGED for module in (ROOT / top).rglob("*.py")}

    assert [folder for folder in folders if not (folder / "__init__.py").exists()] == []


def test_wheel_holds_every_folder_once_and_below_hybridqa() -> None:
    packed = Counter(
        file.distribution_path for file in WheelBuilder(str(ROOT)).recurse_included_files()
    )

    assert {path.split("/")[0] for path in packed} == {"hybridqa"}
    assert set(packed.values()) == {1}
    for folder in PACKAGED:
        for file in (ROOT / folder).rglob("*"):
            if file.is_file() and "__pycache__" not in file.parts:
                below = file.relative_to(ROOT).as_posix().removeprefix("hybridqa/")
                assert f"hybridqa/{below}" in packed


@pytest.mark.slow
@pytest.mark.parametrize("through", [["--wheel"], []], ids=["wheel", "wheel-from-sdist"])
def test_built_wheel_is_complete(tmp_path: Path, through: list[str]) -> None:
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(tmp_path), *through]
    subprocess.run([*build, str(ROOT)], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")

    # -I and -S: neither this checkout nor the installed packages are to be found.
    look = [sys.executable, "-I", "-S", "-c", LOOK_AROUND, str(tmp_path / "site")]
    run = subprocess.run(look, cwd=tmp_path, check=False, capture_output=True, text=True)

    assert run.returncode == 0, run.stderr
