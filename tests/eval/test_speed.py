"""The benchmark's own arithmetic; what it measures is measured by `hybridqa bench`."""

import io
import json
from types import SimpleNamespace
from typing import Any, cast

import pytest
from rich.console import Console

from hybridqa.config import Config
from hybridqa.errors import HybridQAError, InputError
from hybridqa.eval.speed import ROWS, SpeedReport, SpeedRow, markdown, run_speed, table
from hybridqa.eval.speed import run as speed_run
from hybridqa.eval.speed.pairs import side_by_side, spread, told
from hybridqa.eval.speed.processes import import_time
from hybridqa.eval.speed.workbench import Workbench


def row(**changes: Any) -> SpeedRow:
    fields: dict[str, Any] = {
        "name": "mixed-batch",
        "description": "sixteen [adapters]",
        "measured": 0.91,
        "low": 0.874,
        "high": 0.95,
        "unit": "x",
        "target": 0.6,
        "at_least": True,
        "details": {"requests": 16},
    }
    return SpeedRow(**(fields | changes))


def report(*rows: SpeedRow, **changes: Any) -> SpeedReport:
    known = ("device", "platform", "python", "torch", "transformers", "peft", "qdrant-edge-py")
    fields: dict[str, Any] = {
        "rows": rows,
        "skipped": {},
        "quick": False,
        "seed": 7,
        "model": {"name": "tiny", "dtype": "float32"},
        "machine": {**{name: f"<{name}>" for name in known}, "commit": "abc+"},
        "seconds": 1.5,
    }
    return SpeedReport(**(fields | changes))


def test_calls_take_turns_after_a_round_to_warm_up() -> None:
    order: list[str] = []

    timings = side_by_side({n: lambda n=n: order.append(n) for n in "ab"}, 3)  # type: ignore[misc]

    assert "".join(order) == "ab" * 4
    assert len(timings.ratios("a", "b")) == 3
    assert min(timings.seconds["a"]) > 0


def test_ratios_are_taken_round_by_round() -> None:
    a, b = iter([9.0, 1.0, 20.0, 3.0]), iter([9.0, 2.0, 10.0, 1.0])

    timings = told({"a": lambda: next(a), "b": lambda: next(b)}, 3)

    assert timings.ratios("a", "b") == [0.5, 2.0, 3.0]
    assert timings.ratio("a", "b") == 2.0
    assert timings.median_ms("b") == 2000
    assert spread([3.0, 1.0, 2.0]) == {"measured": 2.0, "low": 1.0, "high": 3.0}


@pytest.mark.parametrize(
    ("measured", "at_least", "met"),
    [(0.6, True, True), (0.59, True, False), (0.6, False, True), (0.61, False, False)],
)
def test_a_target_is_a_lower_or_an_upper_limit(measured: float, at_least: bool, met: bool) -> None:
    assert row(measured=measured, at_least=at_least).met is met


def test_the_tables_show_every_row_with_its_target() -> None:
    measured = report(
        row(), row(name="import-time", measured=0.5, low=0.5, high=0.5, unit="s", at_least=False)
    )

    text = markdown(measured)

    assert "| `mixed-batch` | sixteen [adapters] | 0.91× (0.874× to 0.95×) | ≥ 0.6× | yes |" in text
    assert "| `import-time` | sixteen [adapters] | 0.5 s | ≤ 0.6 s | yes |" in text
    assert "tiny (float32) on <device>" in text
    assert "seed 7, commit abc+" in text
    console = Console(width=200, file=io.StringIO())
    console.print(table(measured))
    assert "sixteen [adapters]" in cast(io.StringIO, console.file).getvalue()


def test_a_row_that_could_not_be_measured_is_no_success() -> None:
    found = report(row(), skipped={"demo-memory": "it\nfailed | badly"})

    assert not found.met
    assert "| `demo-memory` | not measured: it failed / badly | | | |" in markdown(found)
    assert json.loads(json.dumps(found.as_dict()))["skipped"] == found.skipped
    assert report(row()).met
    assert not report(row(measured=0.1)).met


def test_the_packages_that_played_a_part_are_told() -> None:
    at = {"device": "cpu", "platform": "<platform>", "python": "3.11", "torch": "2", "uvicorn": "9"}

    assert "Python 3.11, torch 2, uvicorn 9, seed 7" in markdown(report(row(), machine=at))


def test_an_unknown_row_is_refused_before_anything_is_loaded() -> None:
    with pytest.raises(InputError, match=r"no row `fast`.*mixed-batch"):
        run_speed(Config(), ["mixed-batch", "fast"])


def test_rows_run_in_order_and_failures_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(bench: Workbench) -> SpeedRow:
        raise HybridQAError("No demo. Write one.")

    class Scratch:
        def __enter__(self) -> Any:
            base = SimpleNamespace(
                name="tiny", fingerprint="f", dtype="torch.float32", device="cpu"
            )
            return SimpleNamespace(base=base)

        def __exit__(self, *error: object) -> None: ...

    monkeypatch.setattr(speed_run, "scratch", lambda config: Scratch())
    monkeypatch.setattr(speed_run, "ROWS", {"a": lambda bench: row(name="a"), "b": fail, "c": fail})

    found = run_speed(Config(), ["b", "a"], quick=True)

    assert [measured.name for measured in found.rows] == ["a"]
    assert found.skipped == {"b": "No demo. Write one."}
    assert (found.quick, found.model["dtype"]) == (True, "float32")
    assert set(found.machine) >= {"torch", "peft", "qdrant-edge-py", "threads"}
    assert {"mixed-batch", "import-time"} <= set(ROWS)


def test_importing_hybridqa_loads_no_torch() -> None:
    bench = Workbench(cast(Any, None), True, 0, lambda *told: None)

    found = import_time(bench)

    assert found.details["imports_torch"] is False
    assert 0 < found.measured < 5
