import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from hybridqa.connectors.files import FileSource
from hybridqa.errors import SourceError
from hybridqa.protocols import Source
from hybridqa.types import Document


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(path: Path, content: str | bytes = "Some text.\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def read_one(path: Path) -> Document:
    (document,) = FileSource([path]).documents()
    return document


def test_it_is_a_source(here: Path) -> None:
    write(here / "a.txt")
    source: Source = FileSource(["a.txt"])

    assert [document.text for document in source.documents()] == ["Some text.\n"]


def test_a_folder_yields_its_supported_files_in_order(here: Path) -> None:
    for name in ("docs/b.txt", "docs/a/z.MD", "docs/c.rst", "docs/d.markdown"):
        write(here / name)
    for name in (".hidden.md", ".github/x.md", ".venv/y.md", "~$lock.docx", "tool.exe", "README"):
        write(here / "docs" / name)

    ids = FileSource(["docs"]).document_ids()

    assert ids == ["docs/a/z.MD", "docs/b.txt", "docs/c.rst", "docs/d.markdown"]


def test_ids_do_not_depend_on_how_a_file_was_named(here: Path) -> None:
    path = write(here / "docs" / "sub" / "warranty.md")

    for name in ("docs", "docs/sub", "docs/sub/warranty.md", "docs/../docs", path, "."):
        assert FileSource([name]).document_ids() == ["docs/sub/warranty.md"]
    assert FileSource(["docs", path]).document_ids() == ["docs/sub/warranty.md"]


def test_ids_elsewhere_are_absolute_or_relative_to_a_given_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "docs" / "a.md")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")

    assert FileSource([path]).document_ids() == [path.as_posix()]
    assert FileSource([path], root=tmp_path).document_ids() == ["docs/a.md"]


def test_ids_are_relative_to_the_outermost_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("repo/.git", "repo/sub/.git"):
        (tmp_path / folder).mkdir(parents=True)
    write(tmp_path / "repo" / "README.md")
    write(tmp_path / "repo" / "sub" / "README.md")
    monkeypatch.chdir(tmp_path / "repo" / "sub")

    assert FileSource(["."]).document_ids() == ["sub/README.md"]
    assert FileSource([tmp_path]).document_ids() == ["README.md", "sub/README.md"]


def test_equal_ids_are_an_error(here: Path) -> None:
    for repository in ("one", "two"):
        (here / repository / ".git").mkdir(parents=True)
        write(here / repository / "README.md")

    with pytest.raises(SourceError, match=r"same document id `README.md`.*`root`"):
        FileSource(["."]).scan()
    assert FileSource(["."], root=".").document_ids() == ["one/README.md", "two/README.md"]


def test_odd_characters_do_not_get_into_ids(here: Path) -> None:
    write(here / "a\nb\x1b.md")
    write(here / "u\u0308.md")  # decomposed, as macOS stores names

    assert FileSource(["."]).document_ids() == ["a%0Ab%1B.md", "\u00fc.md"]


def test_a_file_name_that_is_not_utf8_is_an_error(here: Path) -> None:
    try:
        Path(os.fsdecode(b"\xff.md")).write_text("text")
    except OSError:
        pytest.skip("This file system takes UTF-8 names only.")
    source = FileSource(["."])

    assert source.document_ids() == ["%FF.md"]
    with pytest.raises(SourceError, match="Rename"):
        list(source.documents())


def test_links_that_lead_out_are_skipped(here: Path) -> None:
    secret = write(here / "secret.txt")
    write(here / "secrets" / "key.txt")
    write(here / "docs" / "a.md")
    (here / "docs" / "out.txt").symlink_to(secret)
    (here / "docs" / "folder").symlink_to(here / "secrets")
    (here / "docs" / "again.md").symlink_to("a.md")
    (here / "docs" / "dangling.md").symlink_to("nowhere.md")
    (here / "docs" / "loop.md").symlink_to("loop.md")

    assert FileSource(["docs"]).document_ids() == ["docs/a.md"]


def test_a_link_to_a_hidden_file_of_the_folder_keeps_its_name(here: Path) -> None:
    """Kubernetes mounts configuration so."""
    write(here / "docs" / "..2026" / "a.md")
    (here / "docs" / "a.md").symlink_to("..2026/a.md")

    assert FileSource(["docs"]).document_ids() == ["docs/a.md"]


def test_a_link_given_by_name_is_followed(here: Path) -> None:
    write(here / "docs" / "a.md")
    (here / "link").symlink_to("docs")
    (here / "b.txt").symlink_to("docs/a.md")

    assert FileSource(["link"]).document_ids() == ["docs/a.md"]
    assert FileSource(["b.txt"]).document_ids() == ["b.txt"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing.md", "cannot be found"),
        ("tool.exe", r"kind `\.exe`.*Convert it to one of \.txt"),
        ("README", "kind `without suffix`"),
        ("empty_folder", "holds no file to ingest"),
        ("pipe.txt", "no regular file"),
        ("nul\0.txt", "cannot be found"),
    ],
)
def test_what_cannot_be_scanned(here: Path, name: str, message: str) -> None:
    write(here / "tool.exe")
    write(here / "README")
    write(here / "empty_folder" / "tool.exe")
    os.mkfifo(here / "pipe.txt")

    with pytest.raises(SourceError, match=message):
        FileSource([name]).scan()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"PK\0\1", "NUL bytes"),
        ("a.md", "caf\u00e9".encode("latin-1"), "not UTF-8 text: byte 0xe9 at 3"),
        ("a.txt", "text".encode("utf-16"), "UTF-16"),
        ("a.md", b"", r"\(0 bytes\) holds no text"),
        ("a.txt", b" \n\n", "holds no text"),
        ("a.md", b"---\ntitle: All there is\n---\n", "holds no text"),
        ("a.txt", b"x" * 101, "has 101 bytes, limit 100"),
        ("a.md", b"---\nupdated: last week\n---\nText", "`updated: last week`.*2026-01-31"),
    ],
)
def test_what_cannot_be_read(here: Path, name: str, content: bytes, message: str) -> None:
    path = write(here / name, content)

    with pytest.raises(SourceError, match=message) as caught:
        list(FileSource([name], max_bytes=100).documents())
    assert str(path) in str(caught.value)


def test_a_caller_can_go_on_after_a_bad_file(here: Path) -> None:
    write(here / "docs" / "a.txt", b"\0")
    write(here / "docs" / "b.txt", "good")
    source = FileSource(["docs"])

    texts, errors = [], []
    for path in source.scan():
        try:
            texts.append(source.read(path).text)
        except SourceError as exc:
            errors.append(exc)
            assert not source.is_named(path)

    assert (texts, len(errors)) == (["good"], 1)


def test_named_files_are_known(here: Path) -> None:
    write(here / "docs" / "a.txt")
    write(here / "docs" / "b.txt")
    source = FileSource(["docs", "docs/b.txt"])

    assert [source.is_named(path) for path in source.scan()] == [False, True]


def test_deleted_files_of_a_folder_are_covered(here: Path) -> None:
    write(here / "docs" / "kept.md")
    gone = read_one(write(here / "docs" / "sub" / "gone.md"))
    other = read_one(write(here / "other.md"))
    Path(gone.source).unlink()
    source = FileSource(["docs", "other.md"])

    assert source.covers(gone.source)
    assert gone.id not in source.document_ids()
    assert not source.covers(other.source)


def test_newlines_and_byte_order_marks_are_normalised(here: Path) -> None:
    assert read_one(write(here / "a.txt", "\ufeffone\r\ntwo\rthree\n")).text == "one\ntwo\nthree\n"


def test_front_matter_is_the_owners_word(here: Path) -> None:
    document = read_one(
        write(
            here / "a.md",
            "---\ntitle: Warranty\nupdated: 2024-05-01\nstability: volatile\ncitation: required\n"
            "version: 1.10\ndraft: no\ntags: [a, b]\nempty:\n---\n\n\n# Heading\ntext\n",
        )
    )

    assert document.text == "# Heading\ntext\n"
    assert document.title == "Warranty"
    assert (document.modified_at, document.modified_by) == (
        datetime(2024, 5, 1, tzinfo=UTC),
        "owner",
    )
    assert document.metadata == {
        "stability": "volatile",
        "citation": "required",
        "version": "1.10",
        "draft": "no",
    }


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2024-05-01", datetime(2024, 5, 1, tzinfo=UTC)),
        ("2024-5-1", datetime(2024, 5, 1, tzinfo=UTC)),
        ("'2024-05-01'", datetime(2024, 5, 1, tzinfo=UTC)),
        ("2024-05-01 10:00:00", datetime(2024, 5, 1, 10, tzinfo=UTC)),
        ("2024-05-01T10:00:00+02:00", datetime(2024, 5, 1, 8, tzinfo=UTC)),
        ("2024-05-01T10:00:00Z", datetime(2024, 5, 1, 10, tzinfo=UTC)),
    ],
)
def test_dates_of_owners_are_in_utc(here: Path, value: str, expected: datetime) -> None:
    assert read_one(write(here / "a.txt", f"---\nupdated: {value}\n---\nx")).modified_at == expected


@pytest.mark.parametrize(
    "text",
    [
        "---\nPlain words under a rule.\n---\nText",
        "---\nkey: [not, closed\n---\nText",
        "---\ntitle: never closed\nText",
        "---\n- a\n- list\n---\nText",
        "---\n---\nText",
        "\n---\ntitle: not at the start\n---\nText",
        "---\n" + "[" * 5000 + "\n---\nText",
        "---\nx: 1\n" + "word " * 20000 + "\n---\nText",
    ],
)
def test_what_looks_like_front_matter_stays(here: Path, text: str) -> None:
    document = read_one(write(here / "a.txt", text))

    assert document.text == text
    assert document.metadata == {}


def test_front_matter_constructs_no_objects(here: Path) -> None:
    document = read_one(
        write(here / "a.md", "---\nevil: !!python/object/apply:os.getcwd []\ngood: yes\n---\nText")
    )

    assert document.metadata == {"good": "yes"}


@pytest.mark.parametrize(
    ("name", "text", "title"),
    [
        ("a.md", "intro\n\n# The *first* heading #\n\n# Second", "The *first* heading"),
        ("a.md", "```sh\n# comment\n```\n# Heading", "Heading"),
        ("a.md", "## Only a second level", "a"),
        ("a.txt", "# Not Markdown", "a"),
        ("a\nb.rst", "text", "a b"),
    ],
)
def test_titles(here: Path, name: str, text: str, title: str) -> None:
    assert read_one(write(here / name, text)).title == title


def test_outside_of_git_the_file_system_tells_the_time(here: Path) -> None:
    path = write(here / "a.txt")
    os.utime(path, (1_700_000_000, 1_700_000_000))

    document = read_one(path)

    assert document.modified_at == datetime.fromtimestamp(1_700_000_000, UTC)
    assert document.modified_by == "filesystem"
    assert document.revisions == ()
    assert document.source == str(path.resolve())
