import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from hybridqa.errors import InputError
from hybridqa.eval.datasets import (
    GoldQuestion,
    Passage,
    read_passages,
    read_sample_questions,
    sample,
)

SAMPLE = Path(__file__).parents[3] / "eval" / "sample" / "questions.jsonl"


def line(**changes: Any) -> str:
    row = {
        "id": "p1",
        "source": "test",
        "title": "Rivers",
        "context": "The Lune is long.",
        "qas": [{"question": "What is long?", "answers": ["The Lune"]}],
    }
    return json.dumps({k: v for k, v in (row | changes).items() if v is not ...}) + "\n"


def passage(name: str, *questions: str, answers: tuple[str, ...] = ("yes",)) -> Passage:
    return Passage(
        id=name,
        context=f"Text of {name}.",
        qas=tuple(GoldQuestion(question=q, answers=answers) for q in questions),
    )


@pytest.mark.parametrize("packed", [False, True])
def test_reads_lines_packed_or_not_whatever_the_name(tmp_path: Path, packed: bool) -> None:
    text = (line() + "\n" + line(id="p2", origin="extra keys are fine")).encode()
    file = tmp_path / "set.data"
    file.write_bytes(gzip.compress(text) if packed else text)

    first, second = read_passages(file)

    assert (first.id, first.title, second.id) == ("p1", "Rivers", "p2")
    assert first.qas == (GoldQuestion(question="What is long?", answers=("The Lune",)),)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (line() + "{not json", "line 2: Invalid JSON"),
        (line(context=...), "line 1: `context`: Field required"),
        (line(qas=[{"question": "Why?"}]), "line 1: `qas.0.answers`: Field required"),
        (line(qas=[{"question": " ", "answers": []}]), "`qas.0.question`"),
        (line(context=""), "must not be blank"),
        (line(id=7), "`id`: Input should be a valid string"),
        (line(context="\ud800"), "line 1"),
        (line() + line(), "line 2: the id `p1` has been used before"),
        ("[1, 2]", "line 1"),
        ("", "is empty"),
        ("\n\n", "is empty"),
    ],
)
def test_names_file_line_and_fault(tmp_path: Path, text: str, fault: str) -> None:
    file = tmp_path / "set.jsonl"
    file.write_text(text)

    with pytest.raises(InputError) as error:
        read_passages(file)

    assert str(file) in str(error.value)
    assert fault in str(error.value)


def test_refuses_what_is_not_utf_8(tmp_path: Path) -> None:
    file = tmp_path / "set.jsonl"
    file.write_bytes(line(title="Käse").encode("utf-16"))

    with pytest.raises(InputError, match="line 1"):
        read_passages(file)


def test_refuses_missing_files_folders_and_damaged_archives(tmp_path: Path) -> None:
    whole = gzip.compress("".join(line(id=f"p{n}") for n in range(50)).encode())
    broken = tmp_path / "broken.jsonl.gz"
    with pytest.raises(InputError, match="cannot be read: No such file"):
        read_passages(tmp_path / "missing.jsonl")
    with pytest.raises(InputError, match="cannot be read"):
        read_passages(tmp_path)
    for damaged in (whole[:-12], whole[:2] + b"xx" + whole[4:], whole[:20] + b"\xff" * 20):
        broken.write_bytes(damaged)
        with pytest.raises(InputError, match="not a whole gzip file"):
            read_passages(broken)


def test_every_passage_is_asked_about_before_any_is_asked_twice() -> None:
    passages = [passage("a", "a1", "a2"), passage("b", "b1"), passage("c", "c1", "c2", "c3")]

    everything = sample(passages)

    assert len(everything.cases) == 6
    assert {case.passage.id for case in everything.cases[:3]} == {"a", "b", "c"}
    assert {case.passage.id for case in everything.cases[3:5]} == {"a", "c"}
    assert [p.id for p in everything.passages] == [c.passage.id for c in everything.cases[:3]]


def test_sampling_is_settled_by_the_seed_and_limits_nest() -> None:
    passages = [passage(f"p{n}", f"q{n}a", f"q{n}b") for n in range(20)]

    assert sample(passages, 15, seed=3) == sample(passages, 15, seed=3)
    assert sample(passages, 15, seed=3).cases[:9] == sample(passages, 9, seed=3).cases
    assert sample(passages, 15, seed=3) != sample(passages, 15, seed=4)


def test_questions_without_answers_are_left_out_and_counted() -> None:
    passages = [passage("a", "a1"), passage("b", "b1", "b2", answers=("", " "))]

    chosen = sample(passages)

    assert [case.question for case in chosen.cases] == ["a1"]
    assert chosen.skipped == 2
    with pytest.raises(InputError, match="None of the 2 questions"):
        sample(passages[1:])
    with pytest.raises(InputError, match="at least 1, got 0"):
        sample(passages, 0)


def test_reads_the_questions_on_the_sample_corpus(tmp_path: Path) -> None:
    questions = read_sample_questions(SAMPLE)

    assert len({question.id for question in questions}) == len(questions) > 100
    for question in questions:
        assert question.answerable == bool(question.answers) == (question.document is not None)
        if question.document:
            assert (SAMPLE.parent / "documents" / question.document).is_file()
    file = tmp_path / "q.jsonl"
    file.write_text(SAMPLE.read_text().splitlines()[0].replace('"stable"', '"steady"'))
    with pytest.raises(InputError, match="line 1: `stability`"):
        read_sample_questions(file)
