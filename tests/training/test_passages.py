"""What is read from sources, and what is made of plain text."""

import json
import random
from pathlib import Path

import pytest

from hybridqa.errors import ConfigError
from hybridqa.training.passages import cloze_questions, own_questions, read_passages

TEXT = "The archive in Lund keeps 4,120 maps of the northern coast. It opened to readers in 1911."


def test_cloze_questions_leave_out_their_answer(tmp_path: Path) -> None:
    made = cloze_questions(TEXT, 4, random.Random(0))

    assert made
    for question, answer in made:
        assert answer in TEXT
        assert "___" in question
        assert answer not in question


def test_no_cloze_questions_are_none() -> None:
    assert cloze_questions(TEXT, 0, random.Random(0)) == []


def test_cloze_questions_of_text_without_sentences_stay_short() -> None:
    words = " ".join(f"word{n}" for n in range(400))

    assert all(len(q.split()) <= 31 for q, _ in cloze_questions(words, 8, random.Random(0)))


def test_an_answer_in_the_passage_s_words_is_preferred(tmp_path: Path) -> None:
    path = tmp_path / "passages.jsonl"
    qas = [{"question": "How many?", "answers": ["about four thousand", "4,120 maps"]}]
    path.write_text(json.dumps({"context": TEXT, "qas": qas}) + "\n")

    (passage,) = read_passages(path, max_words=50)

    assert own_questions(passage, 3, random.Random(0)) == [("How many?", "4,120 maps")]


def test_folders_of_texts_are_cut_into_passages(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("\n".join(f"Line {n} has five words." for n in range(60)))

    passages = read_passages(tmp_path, max_words=200)

    assert len(passages) == 2
    assert passages[0].text.startswith("Line 0")


@pytest.mark.parametrize("line", ['{"context": 3}', "no json", '{"context": "a"}', "[]"])
def test_a_broken_line_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "passages.jsonl"
    path.write_text(json.dumps({"context": TEXT, "qas": []}) + "\n" + line + "\n")

    with pytest.raises(ConfigError, match=r"Line 2 of .*passages\.jsonl"):
        read_passages(path, max_words=50)


def test_a_missing_source_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="absent"):
        read_passages(tmp_path / "absent.jsonl", max_words=50)
