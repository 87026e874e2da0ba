"""Folders of the hub's layout, which `datasets` reads as it reads the hub; nothing is fetched."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hybridqa.errors import InputError
from hybridqa.eval.datasets import load

TEXT = "The Lune is long."


@pytest.fixture(autouse=True)
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    import datasets.config
    import huggingface_hub.constants

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    datasets.disable_progress_bars()
    yield
    datasets.enable_progress_bars()


def write(folder: Path, split: str, *rows: dict[str, Any]) -> str:
    folder.mkdir(exist_ok=True)
    (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return f"hub:{folder}"


def squad(**changes: Any) -> dict[str, Any]:
    answers = {"text": ["Lune", "The Lune"], "answer_start": [4, 0]}
    row = {"id": "q1", "title": "Lune", "context": TEXT, "question": "What?", "answers": answers}
    return row | changes


def test_rows_like_squads_need_no_mapping(tmp_path: Path) -> None:
    none: dict[str, list[Any]] = {"text": [], "answer_start": []}
    data = write(tmp_path / "river", "validation", squad(), squad(id="q2", answers=none))

    dataset = load(data)
    answered, unanswerable = dataset.cases

    assert [(d.id, d.text, d.title) for d in dataset.documents] == [("Lune-1", TEXT, "Lune")]
    assert (answered.id, answered.answers) == ("q1", ("Lune", "The Lune"))
    assert [(span.start, span.end) for span in answered.spans] == [(0, 8), (4, 8)]
    assert answered.labels == {"question_type": "what"}
    assert not unanswerable.answerable
    assert dataset.name == data.removeprefix("hub:")


def test_splits_and_configs_are_chosen(tmp_path: Path) -> None:
    data = write(tmp_path / "river", "train", squad(), squad(id="q2"), squad(id="q3"))
    assert len(load(data).cases) == 3

    write(tmp_path / "river", "test", squad(id="test"))
    assert [case.id for case in load(data).cases] == ["test"]
    assert [case.id for case in load(data + "@train[:2]").cases] == ["q1", "q2"]
    assert [case.id for case in load(data + ":default@train[2:]").cases] == ["q3"]

    write(tmp_path / "river", "validation", squad(id="validation"))
    assert [case.id for case in load(data).cases] == ["validation"]
    for wrong in (data + "@nowhere", data + ":nothing"):
        with pytest.raises(InputError, match=r"cannot be loaded: .*Check the id, the config"):
            load(wrong)


def test_other_columns_are_mapped(tmp_path: Path) -> None:
    row = {
        "q": "Which are rivers?",
        "gold": "Nidd",
        "passages": [TEXT, "The Nidd."],
        "level": "hard",
    }
    data = write(tmp_path / "river", "train", row)

    dataset = load(data, columns={"question": "q", "answers": "gold", "context": "passages"})
    (case,) = dataset.cases

    assert [d.text for d in dataset.documents] == [TEXT, "The Nidd."]
    assert case.documents == tuple(d.id for d in dataset.documents)
    assert [(span.document, span.start) for span in case.spans] == [(case.documents[1], 4)]
    assert case.labels == {"level": "hard", "question_type": "which"}
    with pytest.raises(InputError, match="row 1: there is no `question`; there are `q`, `gold`"):
        load(data)


def test_classes_are_labelled_by_name(tmp_path: Path) -> None:
    head = "---\ndataset_info:\n  features:\n"
    features = "".join(
        f"  - name: {n}\n    dtype: string\n" for n in ("question", "answer", "context")
    )
    names = "  - name: level\n    dtype:\n      class_label:\n        names:\n          '0': easy\n"
    data = write(
        tmp_path / "river",
        "train",
        {"question": "What?", "answer": "Lune", "context": TEXT, "level": 0},
    )
    (tmp_path / "river" / "README.md").write_text(head + features + names + "---\n")

    assert load(data).cases[0].labels["level"] == "easy"


def test_wrong_offsets_and_ids_can_be_left_out(tmp_path: Path) -> None:
    answers = {"text": ["Lune"], "answer_start": [5]}
    data = write(tmp_path / "river", "train", squad(answers=answers), squad(answers=answers))

    with pytest.raises(InputError, match=r"row 2: the id `q1` was used at .* row 1"):
        load(data)
    with pytest.raises(InputError, match="map `answer_start` to no column"):
        load(data, columns={"id": ""})

    cases = load(data, columns={"id": "", "answer_start": ""}).cases
    assert [case.id for case in cases] == ["Lune-1/1", "Lune-1/2"]
    assert [span.start for span in cases[0].spans] == [4]


def test_a_hub_out_of_reach_and_no_address_are_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"`hub:nobody/nothing` cannot be loaded: .*the network"):
        load("hub:nobody/nothing")
    for wrong in ("hub:", "hub:@train", "hub:a:b:c"):
        with pytest.raises(InputError, match="is no address of a dataset"):
            load(wrong)


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)

    with pytest.raises(InputError, match=r"pip install 'hybridqa\[eval\]'"):
        load("hub:rajpurkar/squad")


def test_a_library_that_would_run_a_datasets_code_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(__version__="3.6.0"))

    with pytest.raises(InputError, match=r"version 4 at least, .*; found 3\.6\.0"):
        load("hub:rajpurkar/squad")
