import io
import zipfile
from collections.abc import Sequence
from pathlib import Path

import docx
import pytest
from pypdf import PdfReader, PdfWriter
from reportlab.pdfgen.canvas import Canvas

from hybridqa.connectors.files import FileSource
from hybridqa.errors import SourceError
from hybridqa.types import Document


def read(path: Path, content: bytes) -> Document:
    path.write_bytes(content)
    return FileSource([]).read(path)


def pdf(pages: Sequence[str]) -> bytes:
    buffer = io.BytesIO()
    canvas = Canvas(buffer)
    for page in pages:
        canvas.drawString(72, 720, page)
        canvas.showPage()
    canvas.save()
    return buffer.getvalue()


def encrypted(data: bytes, password: str) -> bytes:
    writer = PdfWriter(clone_from=PdfReader(io.BytesIO(data)))
    writer.encrypt(password, "owner", algorithm="RC4-128")
    buffer = io.BytesIO()
    writer.write(buffer)
    return buffer.getvalue()


def test_pdf_pages_are_joined_by_blank_lines(tmp_path: Path) -> None:
    document = read(tmp_path / "Report.PDF", pdf(["Page one.", "Page two."]))

    assert document.text == "Page one.\n\nPage two."
    assert document.title == "Report"


def test_a_scan_names_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"holds no text.*OCR"):
        read(tmp_path / "scan.pdf", pdf([""]))


def test_encrypted_pdfs(tmp_path: Path) -> None:
    readable = read(tmp_path / "owner_only.pdf", encrypted(pdf(["Open to all."]), ""))

    assert readable.text == "Open to all."
    with pytest.raises(SourceError, match=r"locked.pdf.*encrypted"):
        read(tmp_path / "locked.pdf", encrypted(pdf(["Secret."]), "password"))


@pytest.mark.parametrize("name", ["a.pdf", "a.docx"])
@pytest.mark.parametrize("content", [b"", b"not at all", b"%PDF-1.4\n1 0 obj", b"PK\x03\x04junk"])
def test_broken_files(tmp_path: Path, name: str, content: bytes) -> None:
    with pytest.raises(SourceError, match=r"cannot be read as a (PDF|Word document)"):
        read(tmp_path / name, content)


def test_a_truncated_pdf_never_raises_anything_else(tmp_path: Path) -> None:
    whole = pdf(["Some words on a page."])
    for length in range(1, len(whole), 97):
        try:
            read(tmp_path / "a.pdf", whole[:length])
        except SourceError:
            continue


def test_word_paragraphs_and_tables_come_in_order(tmp_path: Path) -> None:
    written = docx.Document()
    written.add_heading("Warranty", 1)
    table = written.add_table(rows=3, cols=3)
    for row, cells in enumerate(("abc", "def", "ghi")):
        for column, text in enumerate(cells):
            table.cell(row, column).text = text
    table.cell(1, 0).merge(table.cell(1, 1)).text = "wide"
    table.cell(2, 0).add_table(rows=1, cols=2).cell(0, 1).text = "inner"
    written.add_paragraph("The end.")
    written.save(str(tmp_path / "a.docx"))

    document = FileSource([]).read(tmp_path / "a.docx")

    assert document.text == "Warranty\n\na | b | c\nwide | f\ng\n | inner | h | i\n\nThe end."


def test_zip_bombs_are_refused(tmp_path: Path) -> None:
    with (
        zipfile.ZipFile(tmp_path / "a.docx", "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("word/document.xml", "w") as member,
    ):
        for _ in range(201):
            member.write(bytes(1_000_000))

    with pytest.raises(SourceError, match=r"unpacks to 201000000 bytes, limit 200000000"):
        FileSource([]).read(tmp_path / "a.docx")


def test_html_is_read_as_seen(tmp_path: Path) -> None:
    document = read(
        tmp_path / "a.html",
        b"""<!doctype html><html><head><title> The
        page </title><style>p {}</style><script>let x</script>
        <body><h1>Head</h1><p>One <b>bo</b>ld
        word<!-- never --><br>line<script>bad()</script>
        <ul><li>first<li>second</ul>
        <table><tr><td>a<td>b</tr><tr><td>c</td> <td>d</td></tr></table>
        <pre>  code\n    more</pre><div hidden>secret</div><p style="display: none">gone</p>
        <svg><title>Icon</title><text>drawn</text></svg><noscript>off</noscript>
        <p>caf&eacute; &amp; tea""",
    )

    assert document.title == "The page"
    assert document.text == (
        "Head\n\nOne bold word\nline\n\nfirst\nsecond\n\na | b\nc | d\n\n"
        "  code\n    more\n\ncaf\u00e9 & tea"
    )


def test_html_meta_is_the_owners_word(tmp_path: Path) -> None:
    document = read(
        tmp_path / "a.htm",
        b'<meta name="updated" content="2024-02-03"><meta name=Stability content="volatile">'
        b'<meta name="citation" content="required"><meta name="viewport" content="x"><p>Text',
    )

    assert document.modified_at is not None
    assert (document.modified_at.isoformat(), document.modified_by) == (
        "2024-02-03T00:00:00+00:00",
        "owner",
    )
    assert document.metadata == {"stability": "volatile", "citation": "required"}
    assert document.title == "a"


@pytest.mark.parametrize(
    "content",
    [
        "<p>caf\u00e9".encode(),
        "<p>caf\u00e9".encode("utf-8-sig"),
        "<p>caf\u00e9".encode("utf-16"),
        b'<meta charset="iso-8859-1"><p>caf\xe9',
        b'<meta charset="iso-8859-1"><p>caf\xc3\xa9',  # it lies
    ],
)
def test_html_in_a_declared_encoding(tmp_path: Path, content: bytes) -> None:
    assert read(tmp_path / "a.html", content).text == "caf\u00e9"


@pytest.mark.parametrize(
    "content", [b"<p>caf\xe9", b'<meta charset="klingon"><p>caf\xe9', b"<p>\0</p>"]
)
def test_encodings_are_not_guessed(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(SourceError, match=r"a\.html.*(UTF-8|NUL)"):
        read(tmp_path / "a.html", content)


def test_deeply_nested_html_is_read(tmp_path: Path) -> None:
    text = read(tmp_path / "a.html", b"<div>" * 5000 + b"deep" + b"</div>" * 5000).text

    assert text == "deep"
