import json
from pathlib import Path
from typing import Any

import pytest

from hybridqa.errors import InputError
from hybridqa.eval.cases import Span
from hybridqa.eval.datasets import load

CONTEXT = "The Normans (Norman: Nourmands) came from Normandy. Normandy is in France."


def squad(qas: Any, **changes: Any) -> str:
    paragraph = {"context": CONTEXT, "qas": qas} | changes
    articles = [
        {"title": "Normans", "paragraphs": [paragraph, {"context": "Of castles.", "qas": []}]},
        {"paragraphs": [{"context": "Of rivers.", "qas": []}]},
    ]
    return json.dumps({"version": "v2.0", "data": articles})


def entry(*answers: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {"id": "q1", "question": "Where from?", "answers": list(answers)} | changes


def test_both_versions_are_read(tmp_path: Path) -> None:
    file = tmp_path / "dev-v2.0.json"
    file.write_text(
        squad(
            [
                entry(
                    {"text": "Normandy", "answer_start": 52},
                    {"text": " Normandy", "answer_start": 41},
                ),
                entry(id="q2", is_impossible=True, plausible_answers=[{"text": "France"}]),
                entry({"text": "Normandy"}, id="q3", is_impossible=False),
            ]
        )
    )

    dataset = load(str(file))
    given, impossible, searched = dataset.cases

    assert dataset.name == "dev-v2.0"
    assert [document.id for document in dataset.documents] == [
        "Normans-1",
        "Normans-2",
        "dev-v2.0-1",
    ]
    assert [document.title for document in dataset.documents] == ["Normans", "Normans", "dev-v2.0"]
    assert (given.id, given.answers, given.documents) == ("q1", ("Normandy",), ("Normans-1",))
    assert given.spans == searched.spans
    assert given.spans == tuple(
        Span(document="Normans-1", start=start, end=start + 8) for start in (42, 52)
    )
    assert not impossible.answerable
    assert impossible.documents == impossible.spans == ()
    assert "answers" not in impossible.labels


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("{", "Invalid JSON"),
        ("[]", "It must look like"),
        ('{"data": 7}', "`data`"),
        (squad([], context=7), "`data.0.paragraphs.0.context`"),
        (squad([]), "holds no question"),
        ('{"data": []}', "holds no question"),
        (squad([entry({"text": "Normandy", "answer_start": 3})]), "qas.0`: at 3 of `Normans-1`"),
        (squad([entry({"start": 3})]), "`data.0.paragraphs.0.qas.0`: `answers` has no `text`"),
        (squad([entry(), entry()]), "qas.1`: the id `q1` was used at"),
        (" ", "is empty"),
    ],
)
def test_names_file_and_fault(tmp_path: Path, text: str, fault: str) -> None:
    (tmp_path / "dev.json").write_text(text)

    with pytest.raises(InputError) as error:
        load(str(tmp_path / "dev.json"))

    assert "dev.json`" in str(error.value)
    assert fault in str(error.value)
