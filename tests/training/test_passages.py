"""What is read from sources, and what is made of plain text."""

import json
import random
import re
from pathlib import Path

import pytest

from hybridqa.config import validate
from hybridqa.errors import ConfigError
from hybridqa.training.config import SourceConfig
from hybridqa.training.passages import (
    Passage,
    altered,
    cloze_questions,
    own_questions,
    read_passages,
    shortened,
    thinned,
    without_answer,
)

TEXT = "The archive in Lund keeps 4,120 maps of the northern coast. It opened to readers in 1911."


def test_cloze_questions_leave_out_their_answer(tmp_path: Path) -> None:
    made = [each for n in range(4) for each in cloze_questions(TEXT, 4, random.Random(n))]

    for question, answer in made:
        assert answer in TEXT
        assert answer not in question
    assert {("___" in question, question.endswith("?")) for question, _ in made} == {
        (True, False),
        (False, True),
    }


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


def test_a_part_of_a_source_is_read(tmp_path: Path) -> None:
    path = tmp_path / "passages.jsonl"
    texts = ["one", "two words", "three", "four", "five"]
    path.write_text("".join(json.dumps({"context": t, "qas": []}) + "\n" for t in texts))

    read = [[p.text for p in read_passages(path, 1, part)] for part in ((0.0, 0.8), (0.8, 1.0))]

    assert read == [["one", "three", "four"], ["five"]]
    with pytest.raises(ConfigError, match="must begin before it ends"):
        validate(SourceConfig, {"path": "x", "part": [0.8, 0.8]}, "test")


def test_the_sentences_that_answer_are_cut_out() -> None:
    more = (
        " Its readers come from all over the country, and most of them stay for two weeks or more."
    )

    assert without_answer(TEXT + more, "1911") == TEXT.split(" It opened")[0] + more
    assert without_answer(TEXT, "1911") is None  # too little remains
    assert without_answer(TEXT.replace(". ", " ") + more, "4,120 MAPS") is None


def test_a_question_is_asked_of_another_name_or_number() -> None:
    rng = random.Random(0)
    other = "The archive in Malmö is closed."

    year = altered("What opened in 1911?", TEXT, [], rng)
    place = altered("Who reads in Lund today?", TEXT, [TEXT, other], rng)

    assert year is not None
    assert re.fullmatch(r"What opened in \d{4}\?", year)
    assert year[-5:-1] not in TEXT
    assert place == "Who reads in Malmö today?"
    assert altered("Who reads in Lund today?", TEXT, [TEXT], rng) is None
    assert altered("Who reads there?", TEXT, [other], rng) is None


@pytest.mark.parametrize(
    "line", ['{"context": 3, "qas": []}', '{"context": 3}', "no json", '{"context": "a"}', "[]"]
)
def test_a_broken_line_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "passages.jsonl"
    path.write_text(json.dumps({"context": TEXT, "qas": []}) + "\n" + line + "\n")

    with pytest.raises(ConfigError, match=r"Line 2 of .*passages\.jsonl"):
        read_passages(path, max_words=50)


def test_a_missing_source_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="absent"):
        read_passages(tmp_path / "absent.jsonl", max_words=50)


LONG = " ".join(f"Room {n} of the archive holds the maps of the year {1800 + n}." for n in range(9))


def test_a_shortened_passage_answers_the_questions_it_keeps() -> None:
    passage = Passage(LONG, [(f"Room {n}?", [f"{1800 + n}", "long ago"]) for n in range(9)])

    made = [shortened(passage, 1.0, random.Random(n)) for n in range(40)]

    assert len({each.text for each in made}) > 5
    for each in made:
        assert each.text in LONG
        assert each.questions
        for _, answers in each.questions if each.text != LONG else ():
            assert len(answers) == 1
            assert answers[0] in each.text


@pytest.mark.parametrize("text", ["One sentence only.", TEXT, "A. B. C. D. E."])
def test_a_short_passage_stays_whole(text: str) -> None:
    passage = Passage(text, [])

    assert all(shortened(passage, 1.0, random.Random(n)) == passage for n in range(20))


def test_a_passage_without_its_questions_left_stays_whole() -> None:
    passage = Passage(LONG, [("Which?", ["none of these"])])

    assert all(shortened(passage, 1.0, random.Random(n)) == passage for n in range(20))


def test_a_thinned_question_keeps_most_words_in_order() -> None:
    words = [f"word{n}" for n in range(40)]

    def thin(question: str, seed: int) -> str:
        ((made, answer),) = thinned([(question, "answer")], 1.0, random.Random(seed))
        assert answer == "answer"
        return made

    made = [thin(" ".join(words), n).split() for n in range(30)]

    assert 0.75 * 40 < sum(map(len, made)) / 30 < 0.95 * 40
    assert all(left == [word for word in words if word in left] for left in made)
    assert thin("Who?", 0) == "Who?"
