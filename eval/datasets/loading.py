"""Tell the forms of data apart, and read them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from hybridqa.errors import InputError
from hybridqa.eval.cases import Dataset
from hybridqa.eval.datasets.assembly import assemble
from hybridqa.eval.datasets.hub import PREFIX, read_hub
from hybridqa.eval.datasets.jsonl import read_jsonl
from hybridqa.eval.datasets.questions import Question, check_columns
from hybridqa.eval.datasets.squad import read_squad
from hybridqa.eval.datasets.tables import read_table
from hybridqa.types import Document

_DOCUMENTS = "documents"
_QUESTIONS = ("questions.jsonl", "questions.csv", "questions.tsv")
_KINDS = "`.jsonl`, `.json` (SQuAD), `.csv` or `.tsv`, gzip archives of them (`.jsonl.gz`) too"

Read = tuple[list[Document], list[Question]]


def load(
    data: str, documents: Path | None = None, columns: Mapping[str, str] | None = None
) -> Dataset:
    """Read the documents and questions of a run; the package's docstring shows all forms.

    Args:
        data: A file, a folder, or `hub:ID:config@split`.
        documents: Folder of files to search, whatever else the data brings. By default a folder's
            own `documents`, or, where a file's questions come without texts, the one beside it.
        columns: The data's column by our name (`questions.COLUMNS`, or a label); an empty one says
            that the data has none.

    Raises:
        InputError: The data cannot be read, or is no such data; names file, line, fault, remedy.
    """
    columns = columns or {}
    check_columns(columns)
    name, (texts, questions) = _read(data, columns)
    if documents is None:
        documents = _own_documents(data, bool(texts) or any(q.contexts for q in questions))
    files = _read_files(documents) if documents else []
    return assemble(name, data, [*files, *texts], questions)


def _read(data: str, columns: Mapping[str, str]) -> tuple[str, Read]:
    """Return the name of the data, and what it holds."""
    if data.startswith(PREFIX):
        return data.removeprefix(PREFIX), ([], read_hub(data, columns))
    path = Path(data)
    if not path.exists():
        raise InputError(f"There is no file or folder `{data}`. Name one, or `hub:ID`.")
    if path.is_dir():
        return path.resolve().name, _read_file(_questions_in(path), columns)
    return _bare(path).stem, _read_file(path, columns)


def _questions_in(folder: Path) -> Path:
    """Return the file of questions in a folder."""
    found = [folder / name for name in _QUESTIONS if (folder / name).is_file()]
    if len(found) != 1:
        raise InputError(
            f"The folder `{folder}` has {len(found)} files of questions, but must have one: "
            f"{' or '.join(_QUESTIONS)}. Its documents belong into `{_DOCUMENTS}/`."
        )
    return found[0]


def _read_file(path: Path, columns: Mapping[str, str]) -> Read:
    match _bare(path).suffix.lower():
        case ".jsonl" | ".ndjson":
            return read_jsonl(path, columns)
        case ".json":
            return read_squad(path, _bare(path).stem, columns)
        case ".csv" | ".tsv" as suffix:
            return [], read_table(path, suffix == ".tsv", columns)
        case suffix:
            raise InputError(
                f"`{path}` is of the kind `{suffix or 'without suffix'}`, which cannot be read. "
                f"Give a folder, `hub:ID`, or a file of these kinds: {_KINDS}."
            )


def _own_documents(data: str, has_texts: bool) -> Path | None:
    """Return the folder of documents that belongs to the data, if there is one."""
    path = Path(data)
    if data.startswith(PREFIX) or (has_texts and not path.is_dir()):
        return None
    folder = (path if path.is_dir() else path.parent) / _DOCUMENTS
    return folder if folder.is_dir() else None


def _read_files(folder: Path) -> list[Document]:
    """Return the files of a folder as documents, named by their path below it."""
    from hybridqa.connectors.files import FileSource  # its parsers take a while

    if not folder.is_dir():
        raise InputError(f"There is no folder `{folder}`. Name the folder of the documents.")
    return list(FileSource([folder], root=folder).documents())


def _bare(path: Path) -> Path:
    """Return the path that an archive would unpack to."""
    return path.with_suffix("") if path.suffix.lower() == ".gz" else path
