from pathlib import Path

import pytest

from hybridqa.errors import InputError
from hybridqa.eval.cases import Dataset, Span
from hybridqa.eval.datasets import load


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "documents" / "north").mkdir(parents=True)
    (tmp_path / "documents" / "lune.md").write_text("---\ntitle: Lune\n---\nThe Lune is long.")
    (tmp_path / "documents" / "north" / "nidd.html").write_text("<p>The <b>Nidd</b> is short.</p>")
    return tmp_path


def load_text(folder: Path, text: str, name: str = "set.csv", encoding: str = "utf-8") -> Dataset:
    (folder / name).write_bytes(text.encode(encoding))
    return load(str(folder / name))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize(("name", "separator"), [("set.csv", ","), ("a.csv", ";"), ("a.TSV", "\t")])
def test_rows_name_their_documents(folder: Path, encoding: str, name: str, separator: str) -> None:
    rows = [
        ["Question", " ANSWERS ", "documents", "id", "Topic", "citation_needed"],
        ['"What, or ""who"", is\nlong?"', "The Lune| Lune", "lune.md", "", "water", "yes"],
        ["Which are rivers?", "Nidd", '"lune.md; north/nidd.html"', "q9", "", "no"],
        [""] * 6,
        ["Where is the Taff?", "", "lune.md", "", "", ""],
    ]
    text = "\r\n".join(separator.join(row) for row in rows)

    dataset = load_text(folder, text, name, encoding)
    first, several, unanswerable = dataset.cases

    assert [(d.id, d.title, d.text) for d in dataset.documents] == [
        ("lune.md", "Lune", "The Lune is long."),
        ("north/nidd.html", "nidd", "The Nidd is short."),
    ]
    assert first.question == 'What, or "who", is\nlong?'
    assert first.answers == ("The Lune", "Lune")
    assert first.spans == (
        Span(document="lune.md", start=0, end=8),
        Span(document="lune.md", start=4, end=8),
    )
    assert first.labels == {"question_type": "what", "topic": "water", "citation_need": "needed"}
    assert several.documents == ("lune.md", "north/nidd.html")
    assert [span.document for span in several.spans] == ["north/nidd.html"]
    assert [case.id for case in dataset.cases] == ["lune.md/1", "q9", "lune.md/2"]
    assert not unanswerable.answerable


def test_where_nobody_knows_the_document_all_are_searched(folder: Path) -> None:
    dataset = load_text(folder, "question,answer\nWhat is long?,Lune\n")

    assert len(dataset.documents) == 2
    assert (dataset.cases[0].id, dataset.cases[0].documents) == ("set/1", ())


def test_contexts_become_documents_instead_of_the_folder_beside(folder: Path) -> None:
    text = (
        "question,answer,context,title,answer_start\n"
        "What is long?,Severn,The Severn is long.,Severn,4\n"
        "What is it?,long|river,The Severn is long.,Severn,14|\n"
        "What flows?,Wye,The Wye flows.,Severn,\n"
        "What ebbs?,Dee,The Dee ebbs.,,\n"
    )

    dataset = load_text(folder, text)

    assert [d.id for d in dataset.documents] == ["Severn-1", "Severn-2", "set-1"]
    assert [d.title for d in dataset.documents] == ["Severn", "Severn", "set-1"]
    assert [case.id for case in dataset.cases] == [
        "Severn-1/1",
        "Severn-1/2",
        "Severn-2/1",
        "set-1/1",
    ]
    assert [case.spans[0].start for case in dataset.cases] == [4, 14, 4, 4]


def test_a_given_folder_is_searched_beside_contexts(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "set.csv").write_text("question,answer,context\nWhat flows?,Wye,The Wye flows.\n")

    dataset = load(str(tmp_path / "set.csv"), documents=folder / "documents")

    assert [d.id for d in dataset.documents] == ["lune.md", "north/nidd.html", "set-1"]


def test_columns_of_other_names_are_mapped(folder: Path) -> None:
    (folder / "set.csv").write_text(
        "Q,A,document,id,when\nWhat?,Wye,The Wye flows.,same,volatile\nWhy?,Wye,A Wye.,same,\n"
    )
    columns = {
        "question": "Q",
        "answers": "a",
        "context": "document",
        "id": "",
        "stability": "when",
    }

    dataset = load(str(folder / "set.csv"), columns=columns)

    assert [d.text for d in dataset.documents] == ["The Wye flows.", "A Wye."]
    assert [case.id for case in dataset.cases] == ["set-1/1", "set-2/1"]
    assert dataset.cases[0].labels == {"stability": "volatile", "question_type": "what"}
    with pytest.raises(InputError, match="there is no column `Query`, which was to be the `ques"):
        load(str(folder / "set.csv"), columns={"question": "Query"})
    with pytest.raises(InputError, match="No column can be mapped to `answer`"):
        load(str(folder / "set.csv"), columns={"answer": "a"})


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "is empty"),
        ("question,answer\n", "holds no question"),
        ("query,solution\nWhat?,Lune\n", "line 2: there is no `answers`; there are `solution`"),
        ("question,answer,answer\n", "line 1: a column has no name, or two have the same"),
        ("question,answer\nWhat?\n", "line 2: 1 cells, but 2 columns (question, answer)"),
        ("question,answer\nWhat, or who?,Lune\n", "line 2: 3 cells, but 2 columns"),
        ('question,answer\n"What?,Lune\n', "unexpected end of data"),
        (f"question,answer\n{'x' * 200_000},Lune\n", "field larger than field limit"),
        ("question,answer\n ,Lune\n", "line 2: `question` is blank"),
        ("question,answer,document\nWhat?,Lune,lune.nd\n", "Did you mean `lune.md`?"),
        ("question,answer,start\nWhat?,Lune,x\n", "`answer_start` is `x` (str)"),
        ("question,answer,document,start\nWhat?,Lune,lune.md,5\n", "there stands `une `"),
        ("question,context,document\nWhat?,Lune,a\n", "no `answers`"),
        ("question,answer,context,document\nWhat?,,A.,a\nWhat?,,B.,a\n", "line 3: the context of"),
        ("question,answer,context,document\nWhat?,,A.,a;b\n", "1 contexts, but 2 documents"),
    ],
)
def test_names_file_line_and_fault(folder: Path, text: str, fault: str) -> None:
    with pytest.raises(InputError) as error:
        load_text(folder, text)

    assert "set.csv`" in str(error.value)
    assert fault in str(error.value)


def test_refuses_other_encodings(folder: Path) -> None:
    for encoding in ("utf-16", "latin-1"):
        with pytest.raises(InputError, match="not UTF-8 text"):
            load_text(folder, "question,answer\nWo?,Fluß\n", encoding=encoding)
