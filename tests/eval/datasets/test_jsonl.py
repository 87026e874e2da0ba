import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from hybridqa.errors import InputError
from hybridqa.eval.cases import Case, Dataset, Span
from hybridqa.eval.datasets import files, load

RIVER = "The Lune is long. The Lune is wet."


def passage(**changes: Any) -> str:
    row = {
        "id": "p1",
        "source": "atlas",
        "title": "Rivers",
        "context": RIVER,
        "qas": [{"question": "What is long?", "answers": ["The Lune"]}],
    }
    return json.dumps({k: v for k, v in (row | changes).items() if v is not ...}) + "\n"


def asked(**changes: Any) -> str:
    return passage(qas=[{"question": "What is long?", "answers": ["The Lune"]} | changes])


def load_text(folder: Path, text: str | bytes, name: str = "set.jsonl") -> Dataset:
    file = folder / name
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return load(str(file))


@pytest.mark.parametrize("packed", [False, True])
def test_passages_become_documents_and_their_questions_cases(tmp_path: Path, packed: bool) -> None:
    text = ("\ufeff" + passage() + "\n" + passage(id="p2", title=..., source=..., qas=[])).encode()

    dataset = load_text(
        tmp_path, gzip.compress(text) if packed else text, "set.jsonl" + ".gz" * packed
    )

    first, second = dataset.documents
    assert (first.id, first.text, first.title, first.source) == ("p1", RIVER, "Rivers", "atlas")
    assert (second.id, second.title) == ("p2", "p2")
    assert dataset.name == "set"
    assert dataset.cases == (
        Case(
            id="p1/1",
            question="What is long?",
            answers=("The Lune",),
            documents=("p1",),
            spans=(Span(document="p1", start=0, end=8), Span(document="p1", start=18, end=26)),
            labels={"question_type": "what"},
        ),
    )


def test_an_entry_may_say_more(tmp_path: Path) -> None:
    text = asked(
        id="q7",
        answers=["Lune", "The Lune", " ", "Lune "],
        answer_start=22,
        stability="Stable",
        citation_needed=True,
        kind="name",
        labels={"topic": "water", "stability": "volatile"},
        note="x" * 61,
    )

    (case,) = load_text(tmp_path, text).cases

    assert case.id == "q7"
    assert case.answers == ("Lune", "The Lune")
    assert case.spans == (Span(document="p1", start=22, end=26),)
    assert case.labels == {
        "stability": "volatile",
        "citation_need": "needed",
        "question_type": "name",
        "topic": "water",
    }


@pytest.mark.parametrize(
    ("given", "read"),
    [("Lune", ("Lune",)), ([1987, "MCMLXXXVII"], ("1987", "MCMLXXXVII")), (True, ("yes",))]
    + [(none, ()) for none in (None, "", [], [""], {"text": []})],
)
def test_answers_come_in_many_shapes(tmp_path: Path, given: Any, read: tuple[str, ...]) -> None:
    (case,) = load_text(tmp_path, asked(answers=given)).cases

    assert case.answers == read


def test_questions_that_no_document_answers_are_kept(tmp_path: Path) -> None:
    (case,) = load_text(tmp_path, asked(answers=[])).cases

    assert not case.answerable
    assert (case.id, case.documents, case.spans) == ("p1/1", (), ())


def test_questions_and_passages_may_stand_in_one_file(tmp_path: Path) -> None:
    both = {"question": "Which are rivers?", "answers": "the lune", "documents": ["p1", "p2"]}
    text = json.dumps(both) + "\n" + passage(qas=[]) + passage(id="p2", qas=[])

    (case,) = load_text(tmp_path, text).cases

    assert case.documents == ("p1", "p2")
    assert [(span.document, span.start) for span in case.spans] == [
        ("p1", 0),
        ("p1", 18),
        ("p2", 0),
        ("p2", 18),
    ]


def test_given_ids_stay_and_numbers_go_around_them(tmp_path: Path) -> None:
    entry = {"question": "What is long?", "answers": []}
    text = passage(qas=[entry, entry | {"id": "p1/1"}, entry | {"id": 7}, entry])

    assert [case.id for case in load_text(tmp_path, text).cases] == ["p1/2", "p1/1", "7", "p1/3"]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (passage() + "{not json", "line 2: Invalid JSON"),
        (passage(context=...), "line 1: `context`: Field required"),
        (passage(qas=...), "line 1: `qas`: Field required"),
        (passage(context=" "), "must not be blank"),
        (passage(id=7), "`id`: Input should be a valid string"),
        (passage(context="\ud800"), "line 1"),
        (passage() + passage(), "line 2: the id `p1` has been used before"),
        (passage(qas=[7]), "line 1: `qas.0`"),
        (passage(qas=[]), "holds no question"),
        (passage(qas=[{"question": "Why?"}]), "`qas.0`: there is no `answers`"),
        (passage(qas=[{"answers": []}]), "`qas.0`: there is no `question`; there are `answers`"),
        (asked(question=" "), "`question` is blank"),
        (asked(question=7), "`question` is `7` (int)"),
        (asked(answers=[["Lune"]]), "`answers` holds `['Lune']` (list)"),
        (asked(answers=7.5), "`answers` holds `7.5` (float)"),
        (asked(answer_start=1), "at 1 of `p1` should stand the answer `The Lune`, but there stan"),
        (asked(answer_start=-3), "`answer_start` is `-3` (int)"),
        (asked(answer_start=True), "`answer_start` is `True` (bool)"),
        (asked(answer_start=[0, 18]), "there are 1 `answers`, but 2 `answer_start`"),
        (asked(start=0, end=3), "from `start` to `end` must be as long as the first answer"),
        (asked(answers=[{"text": "Lune"}, "Lune"]), "both texts and objects"),
        (asked(answers=[{"answer": "Lune"}]), "`answers` has no `text`; it has `answer`"),
        (asked(answerable=False), "`answerable` is False, but it has 1 answers"),
        (asked(is_impossible=False, answers=[]), "`is_impossible` is False, but it has 0 answers"),
        (asked(stability="steady"), "`stability` is `steady`, but must be one of stable, volatile"),
        (asked(citation_needed="maybe"), "`citation_need` is `maybe`"),
        (
            asked(id="a") + passage(id="p2", qas=[{"question": "?", "answers": [], "id": "a"}]),
            "`a`",
        ),
        ('{"question": "Why?", "answers": []}', "come without documents"),
        ('{"question": "Why?", "answers": [], "document": "p2"}\n' + passage(), "no document `p2`"),
        ("[1, 2]", "line 1"),
        ("", "is empty"),
        ("\n\n", "is empty"),
    ],
)
def test_names_file_line_and_fault(tmp_path: Path, text: str, fault: str) -> None:
    with pytest.raises(InputError) as error:
        load_text(tmp_path, text)

    assert "set.jsonl`" in str(error.value)
    assert fault in str(error.value)


def test_ids_used_twice_are_named_with_both_places(tmp_path: Path) -> None:
    entry = {"question": "Why?", "answers": [], "id": "q1"}

    with pytest.raises(InputError, match=r"`qas.1`: the id `q1` was used at .*`qas.0`"):
        load_text(tmp_path, passage(qas=[entry, entry]))


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "latin-1"])
def test_refuses_what_is_not_utf_8(tmp_path: Path, encoding: str) -> None:
    text = passage().replace("Rivers", "Flüsse").encode(encoding)

    with pytest.raises(InputError, match=r"line 1: not UTF-8 text .* Save it as UTF-8"):
        load_text(tmp_path, text)


def test_refuses_damaged_archives(tmp_path: Path) -> None:
    whole = gzip.compress("".join(passage(id=f"p{n}") for n in range(50)).encode())

    for damaged in (whole[:-12], whole[:2] + b"xx" + whole[4:], whole[:20] + b"\xff" * 20):
        with pytest.raises(InputError, match="not a whole gzip file"):
            load_text(tmp_path, damaged)


def test_a_small_archive_cannot_fill_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "MAX_LINE_BYTES", 1000)
    monkeypatch.setattr(files, "MAX_WHOLE_BYTES", 1000)
    bomb = gzip.compress(b" " * 100_000)

    with pytest.raises(InputError, match="line 1: too large"):
        load_text(tmp_path, bomb)
    for name in ("bomb.json.gz", "bomb.csv.gz"):
        with pytest.raises(InputError, match="more than 1,000 bytes"):
            load_text(tmp_path, bomb, name)
