import json
from pathlib import Path

import pytest

from hybridqa.errors import InputError, SourceError
from hybridqa.eval.datasets import load

SAMPLE = Path(__file__).parents[3] / "eval" / "sample"


def test_the_sample_corpus_loads() -> None:
    dataset = load(str(SAMPLE))
    texts = {document.id: document.text for document in dataset.documents}

    assert (dataset.name, len(dataset.documents), len(dataset.cases)) == ("sample", 16, 178)
    assert dataset == load(str(SAMPLE))
    assert sum(not case.answerable for case in dataset.cases) == 16
    for case in dataset.cases:
        assert case.labels["stability"] in ("stable", "volatile")
        assert case.labels["citation_need"] in ("needed", "not needed")
        assert bool(case.spans) is case.answerable
        for span in case.spans:
            assert texts[span.document][span.start : span.end] in case.answers
    assert {"number", "duration"} < {case.labels["question_type"] for case in dataset.cases}


def test_documents_come_from_the_folder_given(tmp_path: Path) -> None:
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("The Lune.")
    (tmp_path / "questions.csv").write_text("question,answer\nWhat?,Lune\n")

    assert [d.id for d in load(str(tmp_path), tmp_path / "texts").documents] == ["a.txt"]
    with pytest.raises(InputError, match="come without documents"):
        load(str(tmp_path))
    with pytest.raises(InputError, match=r"There is no folder `.*nowhere`"):
        load(str(tmp_path), tmp_path / "nowhere")
    (tmp_path / "texts" / "a.txt").write_bytes(b"\xff")
    with pytest.raises(SourceError, match="not UTF-8"):
        load(str(tmp_path), tmp_path / "texts")


def test_a_folders_documents_are_searched_beside_its_passages(tmp_path: Path) -> None:
    (tmp_path / "documents").mkdir()
    (tmp_path / "documents" / "a.txt").write_text("The Lune.")
    row = {"id": "a.txt", "context": "Else.", "qas": [{"question": "What?", "answers": []}]}
    file = tmp_path / "questions.jsonl"
    file.write_text(json.dumps(row | {"id": "b"}))

    assert [d.id for d in load(str(tmp_path)).documents] == ["a.txt", "b"]
    assert [d.id for d in load(str(file)).documents] == ["b"]
    file.write_text(json.dumps(row))
    with pytest.raises(InputError, match=r"two documents have the id `a.txt`"):
        load(str(tmp_path))


def test_refuses_what_is_no_data(tmp_path: Path) -> None:
    for name in ("questions.csv", "questions.tsv", "set.parquet"):
        (tmp_path / name).write_text("question,answer\n")

    with pytest.raises(InputError, match="has 2 files of questions, but must have one"):
        load(str(tmp_path))
    with pytest.raises(InputError, match=r"is of the kind `.parquet`"):
        load(str(tmp_path / "set.parquet"))
    with pytest.raises(InputError, match="There is no file or folder"):
        load(str(tmp_path / "missing.jsonl"))
