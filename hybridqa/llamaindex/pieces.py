"""A document put together again from the nodes that an app's pipeline has made of it.

A splitter's nodes lie in the document's text, overlap, and leave out white space between them. Each
is put where its offsets say, so that our offsets are those of the app's document; what no node
covers becomes white space of the same length. A node without offsets, or whose text is not what
stands there (a summary, say), is put where its words are found, or else at the end, less what it
overlaps with the text before it. Nothing is lost in any case: each node's text stands in ours.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from llama_index.core.schema import BaseNode, MetadataMode, TextNode

from hybridqa.types import Document

RESERVED = "hybridqa_"
"""Keys of metadata that begin so are ours, whoever wrote them, and are shown to nobody."""
_NODES = f"{RESERVED}nodes"
"""Key of a document's metadata: its nodes, as a JSON list of [id, start, end]."""
_MAX_GAP = 10_000_000
"""Characters; offsets beyond a longer gap are not believed."""
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
    """Return the nodes that a document was put together from; none if it came otherwise.

    A file's front matter may hold anything under our key: what is not well-formed counts as none.
    """
    try:
        entries = json.loads(document.metadata.get(_NODES, "[]"))
        pieces = [Piece(str(name), int(start), int(end)) for name, start, end in entries]
    except (ValueError, TypeError, RecursionError):
        return []
    return pieces if all(0 <= p.start < p.end <= len(document.text) for p in pieces) else []


def added(document_id: str, former: Document | None, nodes: Sequence[BaseNode]) -> Document | None:
    """Return a document with nodes added.

    Args:
        document_id: Of all nodes.
        former: The document as it is; nodes of an id that it has replace its own.
        nodes: At least one, in reading order; those without text are left out. What the metadata
            of all agree on is the document's.

    Returns:
        `None` if there is no text at all.
    """
    fresh = {node.node_id for node in nodes}
    told = [_as_text(node.metadata) for node in nodes]
    text, pieces = "", list[Piece]()
    if former is not None and (kept := [p for p in read_pieces(former) if p.node_id not in fresh]):
        text, pieces = _masked(former.text, kept), kept
        told.append(dict(former.metadata))
    for node in sorted(nodes, key=_by_offset):
        words = node.get_content(MetadataMode.NONE)
        if words.strip():
            text, start = _placed(text, words, _offset(node))
            pieces.append(Piece(node.node_id, start, start + len(words)))
    known = {k: v for k, v in told[0].items() if all(other.get(k) == v for other in told)}
    return _document(document_id, text, pieces, known)


def without(former: Document, node_ids: Iterable[str]) -> Document | None:
    """Return a document without some of its nodes; `None` if no text is left."""
    gone = set(node_ids)
    kept = [piece for piece in read_pieces(former) if piece.node_id not in gone]
    return _document(former.id, _masked(former.text, kept), kept, former.metadata)


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
        metadata={**known, _NODES: json.dumps(spans)},
    )


def _placed(text: str, words: str, start: int | None) -> tuple[str, int]:
    """Return the text with a node's words in it, and where they begin."""
    if start is not None and start >= 0:
        gap = start - len(text)
        if 0 <= gap <= _MAX_GAP:
            return f"{text}{' ' if gap == 1 else chr(10) * gap}{words}", start
        there = text[start : start + len(words)]
        if there and all(a == b or a.isspace() for a, b in zip(there, words, strict=False)):
            return f"{text[:start]}{words}{text[start + len(words) :]}", start
    if (found := text.find(words)) >= 0:
        return text, found
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


def _as_text(metadata: Mapping[str, Any]) -> dict[str, str]:
    return {
        str(key): value if isinstance(value, str) else json.dumps(value, default=str)
        for key, value in metadata.items()
        if value is not None
    }


def _date(text: str) -> datetime | None:
    """Return a reader's date, which has the precision of a day, as UTC."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
