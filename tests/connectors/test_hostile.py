"""Files made to hurt whoever reads them."""

import io
import time
import tracemalloc
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import docx
import pytest

from hybridqa.connectors.parsers import parse
from hybridqa.errors import SourceError

SECONDS = 10
"""Far more than any of these takes, and far less than what they are made for."""
WORD = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"


@contextmanager
def soon() -> Iterator[None]:
    began = time.monotonic()
    yield
    assert time.monotonic() - began < SECONDS


def word(document_xml: bytes | None = None, **more: bytes) -> bytes:
    """Return a Word file, with another text part and further members."""
    plain, packed = io.BytesIO(), io.BytesIO()
    made = docx.Document()
    made.add_paragraph("Harmless.")
    made.save(plain)
    with (
        zipfile.ZipFile(plain) as before,
        zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as after,
    ):
        for name in before.namelist():
            is_text = name == "word/document.xml"
            after.writestr(name, document_xml if is_text and document_xml else before.read(name))
        for name, data in more.items():
            after.writestr(name, data)
    return packed.getvalue()


def body(inside: str, doctype: str = "") -> bytes:
    return (
        f'<?xml version="1.0"?>{doctype}<w:document xmlns:w="{WORD}"><w:body>{inside}</w:body>'
        "</w:document>"
    ).encode()


def pdf(*objects: bytes) -> bytes:
    """Return a PDF of these objects, the first being its root."""
    written, offsets = b"%PDF-1.4\n", []
    for number, each in enumerate(objects, 1):
        offsets.append(len(written))
        written += b"%d 0 obj\n%s\nendobj\n" % (number, each)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    size = len(objects) + 1
    return (
        written
        + b"xref\n0 %d\n0000000000 65535 f \n%s" % (size, table)
        + b"trailer << /Root 1 0 R /Size %d >>\nstartxref\n%d\n%%%%EOF" % (size, len(written))
    )


def told(suffix: str, data: bytes) -> str:
    """Return the text of a file, or why there is none."""
    with soon():
        try:
            return parse(suffix, data, "FILE").text
        except SourceError as exc:
            return str(exc)


def test_a_word_file_that_unpacks_to_gigabytes_is_refused() -> None:
    bomb = word(**{f"word/media/{n}.bin": b"\0" * 30_000_000 for n in range(8)})
    assert len(bomb) < 1_000_000

    with soon(), pytest.raises(SourceError, match="unpacks to 24"):
        parse(".docx", bomb, "bomb.docx")


def test_a_size_that_is_a_lie_is_refused() -> None:
    packed = bytearray(word(x=b"y" * 1000))
    where = packed.rindex(b"PK\x01\x02")
    packed[where + 24 : where + 28] = (10).to_bytes(4, "little")  # unpacked size, as declared

    with soon():
        try:
            parsed = parse(".docx", bytes(packed), "liar.docx")
        except SourceError:
            return
    assert parsed.text == "Harmless."


def test_entities_are_not_expanded() -> None:
    laughs = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 12))
    text = "<w:p><w:r><w:t>a &l11; b</w:t></w:r></w:p>"
    bomb = word(body(text, f'<!DOCTYPE x [<!ENTITY l0 "ha">{laughs}]>'))

    with soon():
        tracemalloc.start()
        try:
            assert "haha" not in parse(".docx", bomb, "laughs.docx").text
        except SourceError:
            pass
        finally:
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
    assert peak < 100_000_000


def test_files_of_this_machine_are_not_read(tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("the secret plan", encoding="utf-8")
    text = "<w:p><w:r><w:t>a &x; b</w:t></w:r></w:p>"
    spy = word(body(text, f'<!DOCTYPE x [<!ENTITY x SYSTEM "{secret.as_uri()}">]>'))

    try:
        found = parse(".docx", spy, "spy.docx").text
    except SourceError as exc:
        found = str(exc)
    assert "secret plan" not in found


def test_tables_in_tables_without_end_are_told() -> None:
    depth = 3000
    inside = "<w:tbl><w:tr><w:tc>" * depth + "<w:p/>" + "</w:tc></w:tr></w:tbl>" * depth

    assert "`FILE`" in told(".docx", word(body(inside)))


@pytest.mark.parametrize("tag", ["div", "table><tr><td", "ul><li", "b", "blockquote"])
def test_html_nested_without_end_is_text_or_told(tag: str) -> None:
    page = f"<html><body>{f'<{tag}>' * 50_000}text</body></html>".encode()

    found = told(".html", page)

    assert "text" in found


def test_a_cell_that_says_it_spans_billions_of_columns_is_one_cell() -> None:
    cell = '<w:tc><w:tcPr><w:gridSpan w:val="2000000000"/></w:tcPr><w:p/></w:tc>'
    merged = "<w:tc><w:tcPr><w:vMerge/></w:tcPr><w:p><w:r><w:t>x</w:t></w:r></w:p></w:tc>"

    with soon():
        text = parse(
            ".docx", word(body(f"<w:tbl><w:tr>{cell}{merged}</w:tr></w:tbl>")), "wide.docx"
        ).text
    assert text == " | x"


def test_rows_merged_by_the_thousand_are_read() -> None:
    merged = (
        "<w:tr><w:tc><w:tcPr><w:vMerge/></w:tcPr><w:p><w:r><w:t>x</w:t></w:r></w:p></w:tc></w:tr>"
    )

    assert told(".docx", word(body(f"<w:tbl>{merged * 3000}</w:tbl>"))).count("x") == 3000


def test_tags_by_the_million_are_refused() -> None:
    with soon(), pytest.raises(SourceError, match="XML tags, limit"):
        parse(".docx", word(body("<w:p/>" * 5_000_000)), "tags.docx")
    with soon(), pytest.raises(SourceError, match="HTML tags and entities, limit"):
        parse(".html", b"<p>a</p>" * 1_000_000, "tags.html")
    with soon(), pytest.raises(SourceError, match="HTML attributes, limit"):
        parse(".html", b"<a" + b" x" * 2_000_000 + b">text</a>", "attributes.html")


@pytest.mark.parametrize(
    "loose", ["<a", "<!-- >", "<!", "<?", "<![if >", "<![CDATA[ >", "</a", "<a b='"]
)
def test_html_that_opens_and_never_closes_is_text(loose: str) -> None:
    assert "text" in told(".html", f"<p>text</p>{loose * 100_000}".encode())


def test_html_with_much_space_is_text() -> None:
    assert told(".html", b"<pre>a" + b" " * 2_000_000 + b"b</pre>").startswith("a ")
    assert "not UTF-8" in told(".html", b"<meta " * 300_000 + b"\xff")


@pytest.mark.parametrize("line", ["# a" + " " * 200_000 + "x", "# " + "#" * 200_000 + "x"])
def test_a_heading_of_any_length_is_read(line: str) -> None:
    assert told(".md", line.encode()) == line


def test_a_small_pdf_whose_pages_never_end_is_refused() -> None:
    drawing = zlib.compress(b"BT /F 12 Tf (word) Tj ET " * 1000)
    many = pdf(
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [%s] /Count 1000 >>" % (b"3 0 R " * 1000),
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 9 9] /Contents 4 0 R /Resources << /Font << "
        b"/F << /Type /Font /Subtype /Type1 /BaseFont /Helvetica >> >> >> >>",
        b"<< /Length %d /Filter /FlateDecode >>\nstream\n%s\nendstream" % (len(drawing), drawing),
    )

    began = time.thread_time()
    with pytest.raises(SourceError, match=r"takes more than \d s to read"):
        parse(".pdf", many, "many.pdf")
    assert time.thread_time() - began < 20


def test_aliases_in_front_matter_do_not_multiply() -> None:
    lines = ["a: &a [x, x, x, x, x, x, x, x, x]"]
    names = "abcdefghi"
    for before, name in pairwise(names):
        lines.append(f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]")
    page = "---\n" + "\n".join(lines) + "\n---\nText."

    with soon():
        try:
            parsed = parse(".md", page.encode(), "laughs.md")
        except SourceError:
            return
    assert sum(map(len, parsed.word.metadata.values())) < 1_000_000


@pytest.mark.parametrize(
    ("suffix", "data"),
    [
        (".txt", b"caf\xe9 au lait"),
        (".md", b"\xff\xfe\x00\x01"),
        (".html", b"<p>\x80\x81\x82"),
        (".docx", b"PK\x03\x04 no zip"),
        (".docx", word(b"<a")),
        (".pdf", b"%PDF-1.7\n1 0 obj\n<< /Kids [1 0 R] >>\nendobj\ntrailer << /Root 1 0 R >>"),
        (".pdf", b"%PDF-" + b"\0" * 100_000),
        (".txt", b""),
    ],
)
def test_what_is_broken_is_told_or_read(suffix: str, data: bytes) -> None:
    assert told(suffix, data).strip()


def test_a_huge_line_is_a_text() -> None:
    with soon():
        assert len(parse(".txt", b"word " * 2_000_000, "line.txt").text) == 10_000_000
