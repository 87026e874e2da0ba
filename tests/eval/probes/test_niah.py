"""Needles in haystacks: what is hidden, what is worn, what is told of what cannot be asked."""

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from hybridqa.config import AnswerConfig, Config, IndexConfig
from hybridqa.errors import DocumentTooLongError, InputError, QuestionError
from hybridqa.eval.folder import prepare_folder
from hybridqa.eval.probes import niah_report
from hybridqa.eval.probes.needles import KINDS, needles
from hybridqa.eval.probes.niah import Cell, NiahPlan, NiahReport, run_niah
from hybridqa.models.places import packed
from hybridqa.testing import written_text
from hybridqa.types import Document

SHORT = Config(answer=AnswerConfig(max_tokens=4))
PLAN = NiahPlan(tokens=(400, 900), depths=(0.0, 0.5, 1.0), trials=2)


def cells(report: NiahReport, arm: str) -> list[Cell]:
    return [cell for cell in report.cells() if cell.arm == arm]


def test_the_right_adapter_and_the_text_hold_the_needle(lab_homes: Any) -> None:
    report = run_niah(lab_homes.config, PLAN, open_home=lab_homes)

    assert len(report.cells()) == 4 * 2 * 3
    for arm, right in [("adapter", 2), ("context", 2), ("wrong-adapter", 0), ("base", 0)]:
        assert {(cell.asked, cell.correct) for cell in cells(report, arm)} == {(2, right)}, arm
    assert all(abs(text.measured_tokens - text.tokens) < 60 for text in report.texts)
    assert len(report.texts) == 12
    told = json.loads(json.dumps(report.as_dict()))
    assert told["cells"][0]["share"]["low"] == pytest.approx(0.342, abs=1e-3)
    assert told["model"]["internalizer_fingerprint"] == "fake associative"
    assert told["seed"] == 0
    assert told["texts"][0]["made"]["adapter_bytes"] > 0


def test_the_text_is_not_in_the_prompt_of_an_adapter(lab_homes: Any) -> None:
    plan = replace(PLAN, arms=["adapter", "wrong-adapter"])
    report = run_niah(lab_homes.config, plan, open_home=lab_homes)

    for prompt in lab_homes.generator.prompts:
        assert not prompt.passages
    right = {trial.question: trial.value for trial in report.trials}
    holding = [
        right[prompt.question] in written_text(prompt.adapters[0])
        for prompt in lab_homes.generator.prompts
    ]
    assert sorted(holding) == [False] * 12 + [True] * 12


def test_a_text_that_is_too_long_is_told_in_its_cell(lab_homes: Any) -> None:
    make = lab_homes.associative.internalize

    def refuse(document: Document, chunks: Any) -> Any:
        if len(document.text) > 600:
            raise DocumentTooLongError(document.id, len(document.text), 600)
        return make(document, chunks)

    lab_homes.associative.internalize = refuse
    report = run_niah(lab_homes.config, PLAN, open_home=lab_homes)

    for arm in ("adapter", "wrong-adapter"):
        short, long = cells(report, arm)[0], cells(report, arm)[-1]
        assert (short.asked, short.refused) == (2, None)
        assert (long.asked, long.refused, long.share) == (0, "too-long", None)
        assert "limit 600" in str(long.reason)
    assert cells(report, "context")[-1].correct == 2
    drawn = niah_report.grids(report)[0]
    assert [row[1:] for row in drawn.rows] == [("100% (34–100)", "too long")] * 3
    assert (
        "more than the internalizer takes (made up to 400)" in niah_report.grids(report)[-1].caption
    )


def test_a_text_beyond_the_window_is_told_in_its_cell(lab_homes: Any) -> None:
    answer = lab_homes.generator.generate

    def refuse(prompts: Any) -> Any:
        if any(len("".join(prompt.passages)) > 600 for prompt in prompts):
            raise QuestionError("The prompt has too many tokens.")
        return answer(prompts)

    lab_homes.generator.generate = refuse
    report = run_niah(lab_homes.config, PLAN, open_home=lab_homes)

    assert [cell.refused for cell in cells(report, "context")] == [None] * 3 + ["beyond-window"] * 3
    assert {cell.correct for cell in cells(report, "adapter")} == {2}


def test_some_trials_of_a_cell_may_be_refused(lab_homes: Any) -> None:
    make = lab_homes.associative.internalize

    def refuse(document: Document, chunks: Any) -> Any:
        if document.id.endswith("-1"):
            raise DocumentTooLongError(document.id, 9, 8)
        return make(document, chunks)

    lab_homes.associative.internalize = refuse
    report = run_niah(lab_homes.config, PLAN, open_home=lab_homes)

    assert {(cell.asked, cell.correct) for cell in cells(report, "adapter")} == {(1, 1)}
    assert niah_report.grids(report)[0].rows[0][1] == "100% (21–100) of 1"


def test_a_single_trial_has_a_wrong_adapter_too(lab_homes: Any) -> None:
    report = run_niah(lab_homes.config, replace(PLAN, trials=1), open_home=lab_homes)

    assert {cell.asked for cell in report.cells()} == {1}
    assert {cell.correct for cell in cells(report, "wrong-adapter")} == {0}


def test_a_part_is_worn_as_the_engine_does(lab_homes: Any) -> None:
    lab_homes.config = replace(lab_homes.config, index=IndexConfig(chunk_tokens=120))
    plan = replace(PLAN, tokens=[900], depths=[0.5], arms=["adapter"], wear="part")
    report = run_niah(lab_homes.config, plan, open_home=lab_homes)

    assert report.cells()[0].correct == 2
    worn = [written_text(prompt.adapters[0]) for prompt in lab_homes.generator.prompts]
    assert max(map(len, worn)) <= 120

    run_niah(lab_homes.config, replace(plan, wear="whole"), open_home=lab_homes)
    assert len(written_text(lab_homes.generator.prompts[-1].adapters[0])) > 700


def test_quotations_are_looked_for_where_the_index_finds_something(lab_homes: Any) -> None:
    make = lab_homes.associative.internalize

    def keep(document: Document, chunks: Any) -> Any:
        made = make(document, chunks)
        spans, yes = [(chunk.start, chunk.end) for chunk in chunks], [True] * len(chunks)
        places = packed([torch.ones(3, 2)] * len(chunks), spans, yes, yes, "locator")
        return replace(made, adapter=replace(made.adapter, places=places))

    lab_homes.associative.internalize = keep
    short = replace(lab_homes.config.answer, hits=1)
    config = replace(lab_homes.config, index=IndexConfig(chunk_tokens=120), answer=short)
    plan = replace(PLAN, tokens=[900], depths=[0.5], arms=["adapter"], quote=True)
    for wear in ("part", "whole"):
        run_niah(config, replace(plan, wear=wear), open_home=lab_homes)

    part, whole = lab_homes.generator.prompts[:2], lab_homes.generator.prompts[2:]
    assert len(whole) == 2
    for prompt in (*part, *whole):
        assert prompt.rounds
        assert not prompt.passages
    for few, many in zip(part, whole, strict=True):
        assert len(few.places[0].scales) == 3 < len(many.places[0].scales)
        (start, end), text = few.places[0].spans[1].tolist(), few.quote_from[0]
        needle = next(n.value for n in needles(2, 0) if n.question == few.question)
        assert needle in text[start:end]


def test_quotations_need_places(lab_homes: Any) -> None:
    with pytest.raises(InputError, match="locator: null"):
        run_niah(lab_homes.config, replace(PLAN, quote=True), open_home=lab_homes)


def test_equal_seeds_make_equal_trials(lab_homes: Any) -> None:
    reports = [
        run_niah(lab_homes.config, replace(PLAN, seed=seed, depths=[0.5]), open_home=lab_homes)
        for seed in (3, 3, 4)
    ]

    assert reports[0].trials == reports[1].trials
    assert reports[0].trials != reports[2].trials


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tokens": []}, "nothing to measure"),
        ({"depths": []}, "nothing to measure"),
        ({"tokens": [256, -1]}, "in tokens, must be at least 1, got -1"),
        ({"depths": [0, 1.5]}, r"share in \[0, 1\] of the text, got 1.5"),
        ({"depths": [float("nan")]}, "got nan"),
        ({"trials": 0}, "trials must be at least 1, got 0"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
        ({"arms": ["adapter", "retrieval"]}, "`retrieval` has no part in this.*adapter, wrong"),
        ({"arms": ["magic"]}, "no arm `magic`"),
        ({"filler": "lorem"}, "no filler `lorem`. Use one of `sample`, `noise`"),
        ({"wear": "half"}, "no way to wear an adapter `half`. Use one of `whole`, `part`"),
    ],
)
def test_a_bad_plan_is_refused(changes: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        replace(PLAN, **changes)


def test_a_text_needs_room_for_more_than_its_needle(lab_homes: Any) -> None:
    with pytest.raises(InputError, match="text of 20 tokens has no room for filler"):
        run_niah(lab_homes.config, replace(PLAN, tokens=[400, 20]), open_home=lab_homes)


def test_without_an_internalizer_there_is_nothing_to_measure(lab_homes: Any) -> None:
    none = replace(lab_homes.config.internalize, internalizer="none")
    with pytest.raises(InputError, match="internalizer: none"):
        run_niah(replace(lab_homes.config, internalize=none), PLAN, open_home=lab_homes)


def test_needles_take_turns_and_their_neighbours_know_nothing_of_them() -> None:
    drawn = needles(43, seed=5)

    assert needles(7, seed=5) == drawn[:7]
    assert {needle.kind for needle in drawn[:5]} == set(KINDS)
    for n, needle in enumerate(drawn):
        other = drawn[(n + 1) % len(drawn)]
        assert needle.value in needle.sentence
        assert needle.value not in needle.question + other.sentence
        assert needle.kind != other.kind or n == len(drawn) - 1


def test_the_files_of_a_run(lab_homes: Any, tmp_path: Path) -> None:
    out = tmp_path / "new" / "niah"
    prepare_folder(out, niah_report.JSON)
    report = run_niah(lab_homes.config, PLAN, open_home=lab_homes)
    files = niah_report.write(report, out)

    assert [file.name for file in files] == ["niah.json", "trials.jsonl", "niah.png"]
    assert json.loads(files[0].read_text()) == json.loads(json.dumps(report.as_dict()))
    assert len(files[1].read_text().splitlines()) == len(report.trials)
    picture = Image.open(io.BytesIO(files[2].read_bytes()))
    assert (picture.format, min(picture.size) > 300) == ("PNG", True)
    with pytest.raises(InputError, match="holds a report already"):
        prepare_folder(out, niah_report.JSON)
    with pytest.raises(InputError, match="is a file"):
        prepare_folder(files[0], niah_report.JSON)


@pytest.mark.real
def test_the_embedded_models_are_measured() -> None:
    plan = NiahPlan(tokens=[200], depths=[1.0], trials=1, arms=["adapter", "context"])
    report = run_niah(SHORT, plan)

    assert [cell.asked for cell in report.cells()] == [1, 1]
    assert report.texts[0].made is not None
    assert abs(report.texts[0].measured_tokens - 200) < 10
