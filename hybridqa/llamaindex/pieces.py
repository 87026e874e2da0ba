"""A document put together again from the nodes that an app's pipeline has made of it.

A splitter's nodes lie in the document's text, overlap, and leave out white space between them. Each
is put where its offsets say, so that our offsets are those of the app's document; what no node
covers becomes white space of the same length. A node without offsets, or whose text is not what
stands there (a summary, say), is put at the end, less what it overlaps with the text before it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from llama_index.core.schema import BaseNode, MetadataMode, TextNode

from hybridqa.types import Document

NODES = "llamaindex_nodes"
"""Key of a document's metadata: its nodes, as a JSON list of [id, start, end]."""
_MIN_OVERLAP = 12
"""Characters; a shorter one between two nodes without offsets may be chance."""
_MAX_OVERLAP = 4_000


@dataclass(frozen=True)
class Piece:
    """A node's span: `document.text[start:end]` is its text."""

    node_id: str
    start: int
    end: int


def read_pieces(document: Document) -> list[Piece]:
    """Return the nodes that a document was put together from; none if it came otherwise."""
    return [Piece(*entry) for entry in json.loads(document.metadata.get(NODES, "[]"))]


def added(document_id: str, former: Document | None, nodes: Sequence[BaseNode]) -> Document | None:
    """Return a document with nodes added.

    Args:
        document_id: Of all nodes.
        former: The document as it is; nodes of an id that it has replace its own.
        nodes: In reading order; those without text are left out.

    Returns:
        `None` if there is no text at all.
    """
    fresh = {node.node_id for node in nodes}
    text, pieces = "", list[Piece]()
    if former is not None:
        kept = [piece for piece in read_pieces(former) if piece.node_id not in fresh]
        text, pieces = _masked(former.text, kept), kept
    for node in sorted(nodes, key=_by_offset):
        words = node.get_content(MetadataMode.NONE)
        if words.strip():
            text, start = _placed(text, words, _offset(node))
            pieces.append(Piece(node.node_id, start, start + len(words)))
    known = _as_text(_shared(node.metadata for node in nodes)) if nodes else {}
    if former is not None:
        old = {key: value for key, value in former.metadata.items() if key != NODES}
        known = _shared([old, known]) if pieces and fresh and nodes and old else known or old
    return _document(document_id, text, pieces, known)


def without(former: Document, node_ids: Iterable[str]) -> Document | None:
    """Return a document without some of its nodes; `None` if no text is left."""
    gone = set(node_ids)
    kept = [piece for piece in read_pieces(former) if piece.node_id not in gone]
    known = {key: value for key, value in former.metadata.items() if key != NODES}
    return _document(former.id, _masked(former.text, kept), kept, known)


def _document(
    document_id: str, text: str, pieces: list[Piece], known: Mapping[str, str]
) -> Document | None:
    if not text.strip():
        return None
    spans = [[piece.node_id, piece.start, piece.end] for piece in pieces]
    modified_at = _date(known.get("last_modified_date", ""))
    return Document(
        id=document_id,
        text=text,
        title=known.get("title") or known.get("file_name") or document_id,
        source=known.get("file_path") or known.get("url") or document_id,
        modified_at=modified_at,
        modified_by="filesystem" if modified_at else "unknown",
        metadata={**known, NODES: json.dumps(spans)},
    )


def _placed(text: str, words: str, start: int | None) -> tuple[str, int]:
    """Return the text with a node's words in it, and where they begin."""
    if start is not None:
        gap = start - len(text)
        if gap >= 0:
            return f"{text}{' ' if gap == 1 else chr(10) * gap}{words}", start
        there = text[start : start + len(words)]
        if all(a == b or a.isspace() for a, b in zip(there, words, strict=False)):
            return f"{text[:start]}{words}{text[start + len(words) :]}", start
    for shared in range(min(len(text), len(words), _MAX_OVERLAP), _MIN_OVERLAP - 1, -1):
        if text.endswith(words[:shared]):
            return text + words[shared:], len(text) - shared
    joint = "\n\n" if text else ""
    return f"{text}{joint}{words}", len(text) + len(joint)


def _masked(text: str, kept: Sequence[Piece]) -> str:
    """Return the text with white space where none of the kept nodes lies."""
    parts, end = list[str](), 0
    for piece in sorted(kept, key=lambda piece: piece.start):
        if piece.end > end:
            begin = max(piece.start, end)
            gap = begin - end
            parts += [" " if gap == 1 else "\n" * gap, text[begin : piece.end]]
            end = piece.end
    return "".join(parts)


def _offset(node: BaseNode) -> int | None:
    return node.start_char_idx if isinstance(node, TextNode) else None


def _by_offset(node: BaseNode) -> tuple[bool, int]:
    start = _offset(node)
    return start is None, start or 0


def _shared(metadata: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what all agree on: what a pipeline says of the document, not of one node."""
    first, *others = metadata
    return {k: v for k, v in first.items() if all(k in o and o[k] == v for o in others)}


def _as_text(metadata: Mapping[str, Any]) -> dict[str, str]:
    return {
        str(key): value if isinstance(value, str) else json.dumps(value, default=str)
        for key, value in metadata.items()
    }


def _date(text: str) -> datetime | None:
    """Return a reader's date, which has the precision of a day, as UTC."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
