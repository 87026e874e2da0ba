"""The store under stock pipelines and indexes, and by LlamaIndex's own patterns for stores."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from llama_index.core import Document as AppDocument
from llama_index.core import StorageContext, VectorStoreIndex
from llama_index.core.embeddings import MockEmbedding
from llama_index.core.ingestion import DocstoreStrategy, IngestionPipeline
from llama_index.core.node_parser import SentenceSplitter
from llama_index.core.schema import NodeRelationship, RelatedNodeInfo, TextNode
from llama_index.core.storage.docstore import SimpleDocumentStore
from llama_index.core.vector_stores import (
    ExactMatchFilter,
    FilterCondition,
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
    SimpleVectorStore,
    VectorStoreQuery,
    VectorStoreQueryResult,
)
from llama_index.vector_stores.qdrant import QdrantVectorStore
from qdrant_client import QdrantClient

from hybridqa.errors import InternalizeError, SourceError
from hybridqa.llamaindex import HybridQueryEngine, HybridVectorStore
from hybridqa.llamaindex.pieces import read_pieces
from hybridqa.testing import FakeInternalizer
from hybridqa.types import Document
from hybridqa.wiring import HybridQA

LAMP = "The Corvane lamp was designed by Ilse Marrow in 1987. It weighs 840 grams."
BRIDGE = "The Tamsin bridge was opened in 1931. It is painted green."


def pipeline(
    qa: HybridQA, strategy: DocstoreStrategy = DocstoreStrategy.UPSERTS
) -> IngestionPipeline:
    return IngestionPipeline(
        transformations=[
            SentenceSplitter(chunk_size=64, chunk_overlap=16),
            MockEmbedding(embed_dim=8),
        ],
        docstore=SimpleDocumentStore(),
        docstore_strategy=strategy,
        vector_store=HybridVectorStore(SimpleVectorStore(), qa),
    )


def doc(name: str, text: str, **metadata: Any) -> AppDocument:
    return AppDocument(id_=name, text=text, metadata=metadata)


def node(name: str, of: str, text: str, vector: list[float], **metadata: Any) -> TextNode:
    return TextNode(
        id_=name,
        text=text,
        embedding=vector,
        metadata=metadata,
        relationships={NodeRelationship.SOURCE: RelatedNodeInfo(node_id=of)},
    )


def test_a_pipelines_documents_arrive_whole(empty: HybridQA, homes: Any) -> None:
    text = f"{LAMP}\n\n" + " ".join(f"Lamp number {n} was sold in 19{n}." for n in range(10, 30))
    nodes = pipeline(empty).run(documents=[doc("lamp", text, maker="Corvane", parts=3)])

    assert len(nodes) > 5
    record = empty.catalog.get("lamp")
    assert record.document.text == text
    assert record.document.metadata["maker"] == "Corvane"
    assert record.document.metadata["parts"] == "3"
    assert homes.associative.texts == [text]
    pieces = read_pieces(record.document)
    assert [piece.node_id for piece in pieces] == [n.node_id for n in nodes]
    assert [text[piece.start : piece.end] for piece in pieces] == [n.get_content() for n in nodes]


def test_answers_name_the_apps_document_and_nodes(empty: HybridQA) -> None:
    nodes = pipeline(empty).run(documents=[doc("lamp", LAMP, maker="Corvane")])
    response = HybridQueryEngine(empty).query("Who designed the Corvane lamp?")

    (found,) = response.source_nodes
    assert found.node.ref_doc_id == "lamp"
    assert found.node.metadata["maker"] == "Corvane"
    assert found.node.metadata["hybridqa_node_ids"] == [n.node_id for n in nodes]
    assert not any("hybridqa_nodes" in key for key in found.node.metadata)


def test_an_unchanged_document_is_left_alone(empty: HybridQA, homes: Any) -> None:
    both = pipeline(empty)
    both.run(documents=[doc("lamp", LAMP)])
    both.run(documents=[doc("lamp", LAMP)])

    assert len(homes.associative.texts) == 1


def test_a_changed_document_is_replaced_with_its_adapter(empty: HybridQA) -> None:
    both = pipeline(empty)
    both.run(documents=[doc("lamp", LAMP), doc("bridge", BRIDGE)])
    before = empty.catalog.adapters("lamp")[0].id
    both.run(documents=[doc("lamp", LAMP.replace("840", "900"))])

    (adapter,) = empty.catalog.adapters("lamp")
    assert adapter.id != before
    response = HybridQueryEngine(empty).query("What does it weigh in grams?")
    assert str(response) == "It weighs 900 grams."
    assert [record.document.id for record in empty.catalog.list()] == ["bridge", "lamp"]


def test_what_a_full_run_does_not_name_is_deleted(empty: HybridQA) -> None:
    both = pipeline(empty, DocstoreStrategy.UPSERTS_AND_DELETE)
    both.run(documents=[doc("lamp", LAMP), doc("bridge", BRIDGE)])
    both.run(documents=[doc("bridge", BRIDGE)])

    assert [record.document.id for record in empty.catalog.list()] == ["bridge"]
    assert empty.catalog.adapters("lamp") == []
    store = both.vector_store
    assert store is not None
    result = store.query(VectorStoreQuery(query_embedding=[0.5] * 8, similarity_top_k=10))
    docs = {both.vector_store._inner.data.text_id_to_ref_doc_id[i] for i in result.ids or []}
    assert docs == {"bridge"}


def test_an_async_pipeline_does_the_same(empty: HybridQA) -> None:
    both = pipeline(empty, DocstoreStrategy.UPSERTS_AND_DELETE)

    async def run_twice() -> VectorStoreQueryResult:
        await both.arun(documents=[doc("lamp", LAMP), doc("bridge", BRIDGE)])
        await both.arun(documents=[doc("lamp", LAMP.replace("840", "900"))])
        assert both.vector_store is not None
        query = VectorStoreQuery(query_embedding=[0.5] * 8, similarity_top_k=10)
        return await both.vector_store.aquery(query)

    assert len(asyncio.run(run_twice()).ids or []) == 1
    (record,) = empty.catalog.list()
    assert record.document.text == LAMP.replace("840", "900")


def test_a_stock_index_over_qdrant_works_on_it(empty: HybridQA) -> None:
    inner = QdrantVectorStore("nodes", QdrantClient(":memory:"))
    store = HybridVectorStore(inner, empty)
    index = VectorStoreIndex.from_documents(
        [doc("lamp", LAMP), doc("bridge", BRIDGE)],
        storage_context=StorageContext.from_defaults(vector_store=store),
    )

    found = index.as_retriever(similarity_top_k=5).retrieve("lamp")
    assert {n.node.ref_doc_id for n in found} == {"lamp", "bridge"}
    index.delete_ref_doc("lamp")
    assert [record.document.id for record in empty.catalog.list()] == ["bridge"]
    assert {n.node.ref_doc_id for n in index.as_retriever().retrieve("lamp")} == {"bridge"}


def test_nodes_of_one_document_may_come_in_several_calls(empty: HybridQA) -> None:
    store = HybridVectorStore(SimpleVectorStore(), empty)
    store.add([node("b", "d", "and it was long.", [1.0, 0.0])])
    store.add([node("c", "d", "and it was long. The end.", [0.0, 1.0])])

    document = empty.catalog.get("d").document
    assert document.text == "and it was long. The end."
    assert [(p.node_id, p.start) for p in read_pieces(document)] == [("b", 0), ("c", 0)]


def test_the_home_is_durable_and_goes_on_where_it_was(homes: Any, tmp_path: Path) -> None:
    with homes(tmp_path / "home") as first:
        HybridVectorStore(SimpleVectorStore(), first).add([node("a", "d", "One.", [1.0, 0.0])])
    with homes(tmp_path / "home") as second:
        HybridVectorStore(SimpleVectorStore(), second).add([node("b", "d", "Two.", [0.0, 1.0])])

        assert second.catalog.get("d").document.text == "One.\n\nTwo."


def test_a_node_without_a_document_is_one(empty: HybridQA) -> None:
    store = HybridVectorStore(SimpleVectorStore(), empty)
    store.add([TextNode(id_="alone", text=LAMP, embedding=[1.0, 0.0])])

    assert empty.catalog.get("alone").document.text == LAMP
    store.delete("alone")
    assert empty.catalog.find("alone") is None


def test_a_document_that_came_otherwise_is_not_overwritten(qa: HybridQA) -> None:
    store = HybridVectorStore(SimpleVectorStore(), qa)

    with pytest.raises(SourceError, match=r"`lamp` already, from `lamp.txt`"):
        store.add([node("n", "lamp", "Another lamp.", [1.0, 0.0])])
    assert store._inner.query(VectorStoreQuery([1.0, 0.0])).ids == []
    store.delete("lamp")
    assert qa.catalog.get("lamp").document.text == LAMP


def test_why_there_is_no_adapter_is_traced(empty: HybridQA, heard: Any) -> None:
    empty.associative = FakeInternalizer(error=InternalizeError("It is too odd."))
    HybridVectorStore(SimpleVectorStore(), empty).add([node("n", "d", "Odd.", [1.0])])

    (event,) = [e for e in heard.events if e.class_name() == "HybridQAIngestEvent"]
    assert (event.document_id, event.status, event.adapter_id) == ("d", "added", None)
    assert event.warning == "It is too odd."


def test_front_matter_cannot_pass_for_nodes(empty: HybridQA) -> None:
    for name, written in {"a": "no json", "b": '[["x", 0, 9999]]', "c": "7", "d": "[[1]]"}.items():
        metadata = {"hybridqa_nodes": written, "hybridqa_node_ids": "forged"}
        empty.ingest(Document(id=name, text=LAMP, title="", source="", metadata=metadata))

    HybridVectorStore(SimpleVectorStore(), empty).delete("a")

    assert len(empty.catalog.list()) == 4
    for found in HybridQueryEngine(empty).query("Who designed the lamp?").source_nodes:
        assert not set(found.node.metadata) & {"hybridqa_nodes", "hybridqa_node_ids"}


def test_an_app_store_that_fails_leaves_a_run_that_can_be_repeated(empty: HybridQA) -> None:
    class Failing(SimpleVectorStore):
        def add(self, nodes: Any, **kwargs: Any) -> list[str]:
            if not full:
                return super().add(nodes, **kwargs)
            full.clear()
            raise OSError("disk full")

    full, both = ["yes"], pipeline(empty)
    both.vector_store = HybridVectorStore(Failing(), empty)
    with pytest.raises(OSError, match="disk full"):
        both.run(documents=[doc("lamp", LAMP)])
    both.run(documents=[doc("lamp", LAMP)])

    assert empty.catalog.get("lamp").document.text == LAMP
    assert len(empty.catalog.adapters("lamp")) == 1


# After LlamaIndex's tests of SimpleVectorStore and of its integrations


def filled(qa: HybridQA) -> HybridVectorStore:
    store = HybridVectorStore(QdrantVectorStore("nodes", QdrantClient(":memory:")), qa)
    ids = store.add(
        [
            node(
                "c330d77f-90bd-4c51-9ed2-57d8d693b3b0",
                "test-0",
                "lorem ipsum",
                [1.0, 0.0, 0.0],
                author="Stephen King",
                rank="a",
            ),
            node(
                "c3d1e1dd-8fb4-4b8f-b7ea-7fa96038d39d",
                "test-1",
                "dolor sit amet",
                [0.0, 1.0, 0.0],
                author="Francis Ford Coppola",
                rank="c",
            ),
            node(
                "c3ew11cd-8fb4-4b8f-b7ea-7fa96038d39d".replace("w", "0"),
                "test-2",
                "consectetur adipiscing",
                [0.0, 0.0, 1.0],
                director="Christopher Nolan",
            ),
        ]
    )
    assert len(ids) == 3
    return store


def test_query_finds_the_nearest_node_as_it_was_given(empty: HybridQA) -> None:
    result = filled(empty).query(VectorStoreQuery([1.0, 0.0, 0.0], similarity_top_k=1))

    assert result.ids == ["c330d77f-90bd-4c51-9ed2-57d8d693b3b0"]
    assert result.similarities is not None
    assert result.similarities[0] == pytest.approx(1.0)
    assert result.nodes is not None
    assert result.nodes[0].metadata == {"author": "Stephen King", "rank": "a"}
    assert result.nodes[0].ref_doc_id == "test-0"


@pytest.mark.parametrize(
    ("filters", "documents"),
    [
        ([ExactMatchFilter(key="author", value="Stephen King")], {"test-0"}),
        (
            [MetadataFilter(key="rank", value=["a", "c"], operator=FilterOperator.IN)],
            {"test-0", "test-1"},
        ),
        ([ExactMatchFilter(key="author", value="nobody")], set()),
    ],
)
def test_query_obeys_filters(empty: HybridQA, filters: Any, documents: set[str]) -> None:
    query = VectorStoreQuery(
        [0.5, 0.5, 0.5], similarity_top_k=3, filters=MetadataFilters(filters=filters)
    )

    assert {n.ref_doc_id for n in filled(empty).query(query).nodes or []} == documents


OPERATORS: list[tuple[str, FilterOperator, Any]] = [
    ("rank", FilterOperator.EQ, "c"),
    ("rank", FilterOperator.NE, "c"),
    ("weight", FilterOperator.GT, 1.5),
    ("weight", FilterOperator.GTE, 1.0),
    ("weight", FilterOperator.LT, 1.5),
    ("weight", FilterOperator.LTE, 2.0),
    ("rank", FilterOperator.IN, ["a", "b"]),
    ("rank", FilterOperator.NIN, ["a", "b"]),
    ("tags", FilterOperator.CONTAINS, "x"),
    ("tags", FilterOperator.ANY, ["x", "z"]),
    ("tags", FilterOperator.ALL, ["x", "y"]),
    ("rank", FilterOperator.TEXT_MATCH, "c"),
    ("rank", FilterOperator.IS_EMPTY, None),
]


def test_every_filter_finds_what_the_apps_store_alone_finds(empty: HybridQA) -> None:
    nodes = [
        node("a", "test-0", "lorem ipsum", [1.0, 0.0], rank="a", weight=1.0, tags=["x", "y"]),
        node("b", "test-1", "dolor sit", [0.0, 1.0], rank="c", weight=2.0, tags=["z"]),
        node("c", "test-2", "amet elit", [1.0, 1.0], rank="c", weight=3.0, tags=["x"]),
    ]
    alone, ours = SimpleVectorStore(), HybridVectorStore(SimpleVectorStore(), empty)
    alone.add(nodes)
    ours.add(nodes)

    sizes = set()
    for key, operator, value in OPERATORS:
        for condition in FilterCondition:
            filters = MetadataFilters(
                filters=[
                    MetadataFilter(key=key, operator=operator, value=value),
                    MetadataFilter(key="weight", operator=FilterOperator.LT, value=2.5),
                ],
                condition=condition,
            )
            query = VectorStoreQuery([1.0, 1.0], similarity_top_k=3, filters=filters)
            assert ours.query(query) == alone.query(query)
            sizes.add(len(ours.query(query).ids or []))
    assert sizes == {0, 1, 2, 3}


def test_query_can_be_narrowed_to_documents(empty: HybridQA) -> None:
    query = VectorStoreQuery([1.0, 0.0, 0.0], similarity_top_k=3, doc_ids=["test-2"])

    assert [n.ref_doc_id for n in filled(empty).query(query).nodes or []] == ["test-2"]


def test_delete_removes_a_document_and_is_idempotent(empty: HybridQA) -> None:
    store = filled(empty)
    store.delete("test-0")
    store.delete("test-0")
    store.delete("never-there")

    result = store.query(VectorStoreQuery([1.0, 0.0, 0.0], similarity_top_k=3))
    assert {n.ref_doc_id for n in result.nodes or []} == {"test-1", "test-2"}
    assert {r.document.id for r in empty.catalog.list()} == {"test-1", "test-2"}


def test_delete_nodes_by_id_and_filter(empty: HybridQA) -> None:
    store = filled(empty)
    store.delete_nodes(["c330d77f-90bd-4c51-9ed2-57d8d693b3b0"])
    store.delete_nodes(filters=MetadataFilters(filters=[ExactMatchFilter(key="rank", value="c")]))

    assert [n.ref_doc_id for n in store.get_nodes()] == ["test-2"]
    assert [r.document.id for r in empty.catalog.list()] == ["test-2"]


def test_clear_spares_documents_that_came_otherwise(empty: HybridQA) -> None:
    empty.ingest(Document(id="own", text=LAMP, title="", source=""))
    store = filled(empty)
    store.clear()

    assert [r.document.id for r in empty.catalog.list()] == ["own"]


def test_persist_is_the_apps_stores(empty: HybridQA, tmp_path: Path) -> None:
    store = HybridVectorStore(SimpleVectorStore(), empty)
    store.add([node("n", "d", "Text.", [1.0, 0.0])])
    store.persist(str(tmp_path / "vectors.json"))

    again = SimpleVectorStore.from_persist_path(str(tmp_path / "vectors.json"))
    assert again.query(VectorStoreQuery([1.0, 0.0])).ids == ["n"]
