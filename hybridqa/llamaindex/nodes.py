"""Between our hits and LlamaIndex's nodes."""

from __future__ import annotations

from collections.abc import Sequence

from llama_index.core.schema import (
    BaseNode,
    MetadataMode,
    NodeRelationship,
    NodeWithScore,
    RelatedNodeInfo,
    TextNode,
)

from hybridqa.llamaindex.pieces import RESERVED, read_pieces
from hybridqa.stores.catalog import Catalog
from hybridqa.types import Chunk, Document, Hit, content_hash

_OURS = ["document_id", "source", "hybridqa_fused_score", "hybridqa_node_ids"]
"""Metadata that says nothing to a model: it is kept out of prompts and embeddings."""


def document_id_of(node: BaseNode) -> str:
    """Return the id of the document that a node is of; a node without one is its own."""
    return node.ref_doc_id or node.node_id


def to_nodes(hits: Sequence[Hit], catalog: Catalog) -> list[NodeWithScore]:
    """Return hits as nodes, in their order: best first by the fused rank of meaning and words.

    A node's score is the cosine similarity in [-1, 1], which cut-offs can be set on; the fused
    score, comparable within one search only, is in its metadata. Its offsets are characters of the
    document's text. `hybridqa_node_ids` are the app's own nodes that the passage lies in, where
    the document came through a `HybridVectorStore`.
    """
    found = {hit.chunk.document_id: catalog.find(hit.chunk.document_id) for hit in hits}
    documents = {key: record.document for key, record in found.items() if record is not None}
    return [_to_node(hit, documents.get(hit.chunk.document_id)) for hit in hits]


def _to_node(hit: Hit, document: Document | None) -> NodeWithScore:
    chunk = hit.chunk
    current = document if document and document.content_hash == chunk.content_hash else None
    metadata: dict[str, object] = {}
    if current is not None:
        written = current.metadata.items()
        metadata = {key: value for key, value in written if not key.startswith(RESERVED)}
        metadata |= {"title": current.title, "source": current.source}
    metadata |= {"document_id": chunk.document_id, "hybridqa_fused_score": hit.score}
    if current is not None and (pieces := read_pieces(current)):
        metadata["hybridqa_node_ids"] = [
            piece.node_id for piece in pieces if piece.start < chunk.end and chunk.start < piece.end
        ]
    node = TextNode(
        id_=f"{chunk.document_id}@{chunk.content_hash[:12]}:{chunk.start}-{chunk.end}",
        text=chunk.text,
        metadata=metadata,
        start_char_idx=chunk.start,
        end_char_idx=chunk.end,
        excluded_llm_metadata_keys=_OURS,
        excluded_embed_metadata_keys=_OURS,
        relationships={
            NodeRelationship.SOURCE: RelatedNodeInfo(
                node_id=chunk.document_id, hash=chunk.content_hash
            )
        },
    )
    return NodeWithScore(node=node, score=hit.similarity)


def to_hit(scored: NodeWithScore) -> Hit:
    """Return any node, ours or the app's, as a hit; without offsets it begins at character 0."""
    node, text = scored.node, scored.node.get_content(MetadataMode.NONE)
    start = node.start_char_idx or 0 if isinstance(node, TextNode) else 0
    source = node.source_node
    return Hit(
        chunk=Chunk(
            document_id=document_id_of(node),
            content_hash=(source.hash if source else None) or content_hash(text),
            start=start,
            end=start + len(text),
            text=text,
        ),
        score=scored.score or 0.0,
        similarity=scored.score or 0.0,
    )
