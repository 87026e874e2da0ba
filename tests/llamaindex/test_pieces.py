"""Documents put together again from nodes."""

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llama_index.core import Document as AppDocument
from llama_index.core.node_parser import (
    HierarchicalNodeParser,
    MarkdownNodeParser,
    NodeParser,
    SentenceSplitter,
    SentenceWindowNodeParser,
    TokenTextSplitter,
)
from llama_index.core.schema import TextNode

from hybridqa.llamaindex.pieces import added, read_pieces, without
from hybridqa.types import Document

TEXT = """# Lamps

The Corvane lamp was designed by Ilse Marrow. Yes.  It weighs 840 grams. Yes.

## Care

Dust it weekly. Yes. Never use water. Yes.
"""


def whole(document: Document | None) -> Document:
    assert document is not None
    for piece in read_pieces(document):
        assert document.text[piece.start : piece.end].strip()
    return document


def nodes_of(text: str, parser: NodeParser) -> list[TextNode]:
    found = parser.get_nodes_from_documents([AppDocument(id_="d", text=text)])
    return [node for node in found if isinstance(node, TextNode)]


@pytest.mark.parametrize(
    "parser",
    [
        SentenceSplitter(chunk_size=12, chunk_overlap=5),
        SentenceSplitter(chunk_size=12, chunk_overlap=0),
        TokenTextSplitter(chunk_size=10, chunk_overlap=4),
        MarkdownNodeParser(),
        SentenceWindowNodeParser.from_defaults(),
        HierarchicalNodeParser.from_defaults(chunk_sizes=[64, 16], chunk_overlap=4),
    ],
    ids=lambda parser: type(parser).__name__,
)
def test_stock_splitters_give_the_text_back(parser: NodeParser) -> None:
    nodes = nodes_of(TEXT, parser)
    document = whole(added("d", None, nodes))

    assert document.text.split() == TEXT.split()
    for piece, node in zip(read_pieces(document), sorted_by_offset(nodes), strict=True):
        assert document.text[piece.start : piece.end] == node.text
        assert (piece.start, piece.end) == (node.start_char_idx, node.end_char_idx)


def sorted_by_offset(nodes: list[TextNode]) -> list[TextNode]:
    return sorted((n for n in nodes if n.text.strip()), key=lambda n: n.start_char_idx or 0)


@settings(max_examples=60, deadline=None)
@given(
    st.text(alphabet="ab. \n", min_size=1, max_size=80).filter(str.strip),
    st.lists(st.tuples(st.integers(0, 79), st.integers(1, 40)), min_size=1, max_size=12),
    st.randoms(use_true_random=False),
    st.integers(0, 12),
)
def test_any_spans_in_any_order_and_calls_keep_their_places(
    text: str, spans: list[tuple[int, int]], random: object, first: int
) -> None:
    nodes = [
        TextNode(id_=str(n), text=text[a : a + size], start_char_idx=a, end_char_idx=a + size)
        for n, (a, size) in enumerate(spans)
        if text[a : a + size].strip()
    ]
    document: Document | None = None
    for group in (nodes[:first], nodes[first:]):
        if group:
            document = added("d", document, group)
    if document is None:
        assert not nodes
        return
    assert {p.node_id: document.text[p.start : p.end] for p in read_pieces(document)} == {
        node.node_id: node.text for node in nodes
    }
    assert {p.node_id: p.start for p in read_pieces(document)} == {
        node.node_id: node.start_char_idx for node in nodes
    }


def test_nodes_without_offsets_follow_each_other_less_their_overlap() -> None:
    nodes = [
        TextNode(text="One lamp is red. Two lamps are blue."),
        TextNode(text="Two lamps are blue. Three are green."),
        TextNode(text="Nothing shared."),
    ]

    document = whole(added("d", None, nodes))

    assert document.text == (
        "One lamp is red. Two lamps are blue. Three are green.\n\nNothing shared."
    )


def test_a_node_that_is_not_what_stands_there_goes_to_the_end() -> None:
    nodes = [
        TextNode(text="The lamp is red.", start_char_idx=0, end_char_idx=16),
        TextNode(text="A summary of it.", start_char_idx=0, end_char_idx=16),
    ]

    assert whole(added("d", None, nodes)).text == "The lamp is red.\n\nA summary of it."


def test_a_splitter_that_loses_its_offsets_loses_no_text() -> None:
    repeated = " ".join(f"Lamp number {n} was sold in 19{n}." for n in range(10, 30))
    nodes = nodes_of(repeated, SentenceSplitter(chunk_size=6, chunk_overlap=6))
    document = whole(added("d", None, nodes))

    assert any(node.start_char_idx is None for node in nodes)
    placed = {p.node_id: document.text[p.start : p.end] for p in read_pieces(document)}
    assert placed == {node.node_id: node.text for node in nodes}


def test_a_node_of_the_same_id_replaces_its_former_text() -> None:
    first = added("d", None, [TextNode(id_="a", text="Old."), TextNode(id_="b", text="Kept.")])
    document = whole(added("d", first, [TextNode(id_="a", text="New.")]))

    assert document.text.split() == ["Kept.", "New."]


def test_without_some_nodes_only_their_own_text_is_gone() -> None:
    nodes = [
        TextNode(id_="a", text="One two", start_char_idx=0),
        TextNode(id_="b", text="two three", start_char_idx=4),
    ]
    document = whole(added("d", None, nodes))

    assert document.text == "One two three"
    assert whole(without(document, ["b"])).text == "One two"
    assert whole(without(document, ["a"])).text == "\n\n\n\ntwo three"
    assert without(document, ["a", "b"]) is None


def test_nodes_without_text_make_no_document() -> None:
    assert added("d", None, [TextNode(text=" \n")]) is None


def test_the_documents_metadata_is_what_all_nodes_agree_on() -> None:
    common = {
        "file_name": "lamp.txt",
        "file_path": "/docs/lamp.txt",
        "last_modified_date": "2026-11-01",
        "stability": "volatile",
    }
    nodes = [TextNode(text=f"Page {n}.", metadata={**common, "page": n}) for n in (1, 2)]

    document = whole(added("d", None, nodes))

    assert (document.title, document.source) == ("lamp.txt", "/docs/lamp.txt")
    assert document.modified_at == datetime(2026, 11, 1, tzinfo=UTC)
    assert document.metadata["stability"] == "volatile"
    assert "page" not in document.metadata


@pytest.mark.parametrize("start", [-3, 10**15])
def test_an_offset_that_cannot_be_is_not_believed(start: int) -> None:
    nodes = [TextNode(text="The lamp."), TextNode(text="Is red.", start_char_idx=start)]

    assert set(whole(added("d", None, nodes)).text.split("\n\n")) == {"The lamp.", "Is red."}


def test_a_date_that_is_none_is_no_date() -> None:
    node = TextNode(text="Page.", metadata={"last_modified_date": "yesterday"})

    assert whole(added("d", None, [node])).modified_at is None
