"""What taking in costs by length: ratios, bytes, memory, and what could not be measured."""

import json
from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from hybridqa.config import Config
from hybridqa.errors import DocumentTooLongError, InputError, InternalizeError
from hybridqa.eval.speed import footprint, pairs
from hybridqa.eval.speed.footprint import Footprint, Unmeasured, measure, measured_apart
from hybridqa.eval.speed.passes import Pass, Passes
from hybridqa.eval.speed.sizes import SizesPlan, run_sizes
from hybridqa.eval.speed.sizes_report import SizesReport, grids
from hybridqa.types import Chunk, Document

PLAN = SizesPlan(tokens=(300, 5000), repeats=1, distil_tokens=100)
PEAKS = {Pass.INTERNALIZE: 300, Pass.FORWARD: 200, Pass.PREFILL: 400}


class Apart:
    """Tells made-up footprints and keeps what it was asked."""

    def __init__(self, too_long: int = 1 << 30) -> None:
        self.asked: list[tuple[Pass, int]] = []
        self._too_long = too_long

    def __call__(
        self, config: Config, which: Pass, tokens: int, seed: int
    ) -> Footprint | Unmeasured:
        self.asked.append((which, tokens))
        if which is Pass.PREFILL and tokens > 4096:
            return Unmeasured("beyond the window", too_long=True)
        if which is Pass.INTERNALIZE and tokens > self._too_long:
            return Unmeasured("too many chunks", too_long=True)
        return Footprint(resting_bytes=100, peak_bytes=PEAKS[which])


def measured(homes: Any, plan: SizesPlan = PLAN, apart: Apart | None = None) -> SizesReport:
    return run_sizes(homes.config, plan, open_home=homes, apart=apart or Apart())


def test_every_length_has_its_figures(homes: Any) -> None:
    report = measured(homes)
    short, long = report.sizes
    told = json.loads(json.dumps(report.as_dict()))

    # 4 layers, 2 heads of 8, keys and values, float32
    assert report.kv_bytes_per_token == 4 * 2 * 8 * 2 * 4
    assert short.kv_bytes == 300 * report.kv_bytes_per_token
    assert short.kept is not None
    assert short.kept.shares == short.chunks == 2
    assert short.kept.adapter_bytes == short.kept.rank * (64 + 32) * 2
    assert short.kv_ratio == pytest.approx(short.kv_bytes / short.kept.adapter_bytes)
    assert (short.peak_ratio, short.working_ratio) == (1.5, 2.0)
    assert short.ms.keys() == {"internalize", "forward", "prefill"}
    assert short.time_ratio is not None
    assert 0 < short.time_ratio.low <= short.time_ratio.median <= short.time_ratio.high
    assert long.ms.keys() == {"internalize", "forward"}
    assert long.time_ratio_to_prefill is None
    assert told["sizes"][0]["kept"]["energy"] == 1.0
    assert told["sizes"][1]["memory_reasons"] == {"prefill": "beyond the window"}
    assert told["model"]["internalizer_fingerprint"] == "fake associative"
    assert told["machine"]["threads"] > 0


def test_ratios_are_of_internalizing_to_the_base_model(
    homes: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = {"internalize": 3.0, "forward": 2.0, "prefill": 6.0}

    def timings(calls: Any, repeats: int) -> pairs.Timings:
        for call in calls.values():
            call()
        return pairs.Timings({name: [clock[name]] * repeats for name in calls})

    monkeypatch.setattr("hybridqa.eval.speed.sizes.side_by_side", timings)
    report = measured(homes, replace(PLAN, distil_tokens=0))
    short = report.sizes[0]

    assert short.time_ratio is not None
    assert short.time_ratio_to_prefill is not None
    assert (short.time_ratio.median, short.time_ratio_to_prefill.median) == (1.5, 0.5)
    times, sizes = grids(report)
    assert times.rows[0] == ("300", "3,000 ms", "1.5× (1.5 to 1.5)", "0.5× (0.5 to 0.5)")
    assert times.rows[1][3] == "beyond window"
    assert sizes.rows[0][2] == "1.50× (2.00)"


def test_a_document_that_is_too_long_is_told(homes: Any) -> None:
    make = homes.associative.internalize

    def refuse(document: Document, chunks: Sequence[Chunk]) -> Any:
        if len(document.text) > 1000:
            raise DocumentTooLongError(document.id, len(document.text), 1000)
        return make(document, chunks)

    homes.associative.internalize = refuse
    apart = Apart(too_long=1000)
    report = measured(homes, apart=apart)
    short, long = report.sizes

    assert short.reason is None
    assert "limit 1000" in str(long.reason)
    assert (long.kept, long.time_ratio, long.kv_ratio, long.peak_ratio) == (None,) * 4
    assert long.kv_bytes == 5000 * report.kv_bytes_per_token
    assert [which for which, tokens in apart.asked if tokens == 5000] == [Pass.INTERNALIZE]
    times, sizes = grids(report)
    assert times.rows[1] == ("5,000", "no adapter", "-", "-")
    assert sizes.rows[1][3] == "no adapter"
    assert "5,000 tokens: Document `5000-tokens` has" in sizes.caption
    json.dumps(report.as_dict())


def test_distillation_is_timed_once_and_beside_internalizing(homes: Any) -> None:
    report = measured(homes)

    assert homes.distillation.calls == ["100-tokens"]
    assert report.distilled is not None
    assert report.distilled.ratio is not None
    assert report.distilled.tokens == 100
    assert "Context distillation of 100 tokens (60 steps) takes" in grids(report)[1].caption
    assert measured(homes, replace(PLAN, distil_tokens=0)).distilled is None
    assert homes.distillation.calls == ["100-tokens"]


def test_distillation_that_fails_is_told(homes: Any) -> None:
    def refuse(document: Document, chunks: Sequence[Chunk]) -> Any:
        raise InternalizeError("No question survived.")

    homes.distillation.internalize = refuse
    report = measured(homes)

    assert report.distilled is not None
    assert report.distilled.ratio is None
    assert "could not be measured: No question survived." in grids(report)[1].caption
    assert json.loads(json.dumps(report.as_dict()))["distilled"]["reason"]


def test_memory_can_be_left_out(homes: Any) -> None:
    apart = Apart()
    report = measured(homes, replace(PLAN, memory=False), apart)

    assert apart.asked == []
    assert report.sizes[0].peak_ratio is None
    assert grids(report)[1].rows[0][1:3] == ("-", "-")


def test_a_footprint_is_that_of_the_pass(homes: Any, tmp_path: Any) -> None:
    config = replace(homes.config, index=replace(homes.config.index, url=None))
    block = 200_000_000
    make = homes.associative.internalize

    def largely(document: Document, chunks: Sequence[Chunk]) -> Any:
        held = b"x" * block
        return make(document, chunks) if held else None

    homes.associative.internalize = largely
    with homes(tmp_path / "home", config) as qa:
        found = {which: measure(qa, which, 300, seed=0) for which in Pass}
        with pytest.raises(DocumentTooLongError, match="limit 4096"):
            measure(qa, Pass.PREFILL, 5000, seed=0)

    assert found[Pass.INTERNALIZE].working_bytes > block * 0.9
    assert found[Pass.FORWARD].working_bytes < block / 2
    assert found[Pass.PREFILL].working_bytes < block / 2


def test_a_pass_over_chunks_reads_all_of_them(homes: Any, tmp_path: Any) -> None:
    config = replace(homes.config, index=replace(homes.config.index, url=None))
    seen: list[int] = []
    with homes(tmp_path / "home", config) as qa:
        hook = qa.base.model.base_model.register_forward_pre_hook(
            lambda module, args, kwargs: seen.append(int(kwargs["attention_mask"].sum())),
            with_kwargs=True,
        )
        passes = Passes(qa, 5000, seed=0)
        passes.prepared(Pass.FORWARD)()
        hook.remove()

    assert len(seen) > 1
    assert sum(seen) == sum(len(chunk.text.encode()) for chunk in passes.chunks)


def test_a_process_that_dies_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def dies(*args: Any, **options: Any) -> Any:
        return SimpleNamespace(returncode=-9, stdout="", stderr="")

    monkeypatch.setattr(footprint.subprocess, "run", dies)
    found = measured_apart(Config(), Pass.FORWARD, 10, 0)

    assert found == Unmeasured(
        "the process ended with code -9 (killed: out of memory?): it said nothing"
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tokens": []}, "nothing to measure"),
        ({"tokens": [256, 0]}, "in tokens, must be at least 1, got 0"),
        ({"repeats": 0}, "repeats must be at least 1, got 0"),
        ({"distil_tokens": -1}, "distil, in tokens, must be at least 0, got -1"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
    ],
)
def test_a_bad_plan_is_refused(changes: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        replace(PLAN, **changes)


@pytest.mark.real
def test_the_embedded_models_are_measured_in_a_process_of_their_own() -> None:
    found = measured_apart(Config(), Pass.INTERNALIZE, 64, 0)

    assert isinstance(found, Footprint)
    assert 200_000_000 < found.resting_bytes < found.peak_bytes < 3_000_000_000
