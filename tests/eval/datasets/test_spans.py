"""Where an answer stands when the data does not say, as `load` finds it."""

import json
from pathlib import Path

import pytest

from hybridqa.eval.datasets import load


@pytest.mark.parametrize(
    ("text", "answers", "found"),
    [
        ("A lamp, a lamppost, a lamp.", ["lamp"], ["lamp", "lamp"]),
        ("In 1003, or 1,003, or 3.5 weeks: 3.", ["3"], ["3"]),
        ("It weighs 40g, or 40 g.", ["40"], ["40"]),
        ("It cost US$5.", ["$5"], ["$5"]),
        ("Who had seven\n  sons?", ["seven sons"], ["seven\n  sons"]),
        ("the Lune, THE LUNE", ["The lune"], ["the Lune", "THE LUNE"]),
        ("the lune, The Lune", ["The Lune"], ["The Lune"]),
        ("The Lune, the derwent", ["The Lune", "Derwent"], ["The Lune"]),
        ("10:15 to 14:45", ["10:15", "10:15 to 14:45"], ["10:15", "10:15 to 14:45"]),
        ("Is it? No, no.", ["no"], []),
        ("Elsewhere.", ["Lune"], []),
        ("C++ (1.5)", ["C++", "(1.5)"], ["C++", "(1.5)"]),
    ],
)
def test_whole_words_count(tmp_path: Path, text: str, answers: list[str], found: list[str]) -> None:
    row = {"id": "p", "context": text, "qas": [{"question": "What?", "answers": answers}]}
    (tmp_path / "set.jsonl").write_text(json.dumps(row))

    (case,) = load(str(tmp_path / "set.jsonl")).cases

    assert [text[span.start : span.end] for span in case.spans] == found
