import asyncio

import pytest
from llama_index.core.postprocessor import SimilarityPostprocessor
from llama_index.core.query_engine import RetrieverQueryEngine

from hybridqa.errors import InputError, QuestionError, UnknownDocumentError
from hybridqa.llamaindex import HybridRetriever
from hybridqa.wiring import HybridQA

ASKED = "Who designed the Corvane lamp?"


def test_nodes_come_best_first_with_cosine_scores(qa: HybridQA) -> None:
    nodes = HybridRetriever(qa).retrieve(ASKED)

    assert [node.node.ref_doc_id for node in nodes] == ["lamp", "bridge"]
    hits = qa.retriever.search(ASKED, 5)
    assert [node.score for node in nodes] == [hit.similarity for hit in hits]
    assert [node.node.metadata["hybridqa_fused_score"] for node in nodes] == [
        hit.score for hit in hits
    ]


def test_async_finds_the_same(qa: HybridQA) -> None:
    retriever = HybridRetriever(qa)

    assert asyncio.run(retriever.aretrieve(ASKED)) == retriever.retrieve(ASKED)


def test_the_number_and_the_documents_are_bounds(qa: HybridQA) -> None:
    assert len(HybridRetriever(qa, similarity_top_k=1).retrieve(ASKED)) == 1
    (only,) = HybridRetriever(qa, document_ids=["bridge"]).retrieve(ASKED)
    assert only.node.ref_doc_id == "bridge"


def test_a_stock_engine_and_cutoff_work_on_it(qa: HybridQA) -> None:
    engine = RetrieverQueryEngine.from_args(
        HybridRetriever(qa), node_postprocessors=[SimilarityPostprocessor(similarity_cutoff=0.3)]
    )

    response = engine.query(ASKED)
    assert [node.node.ref_doc_id for node in response.source_nodes] == ["lamp"]
    assert "designed by Ilse Marrow" in str(response)  # MockLLM says what it was asked


def test_bad_input_is_told(qa: HybridQA) -> None:
    with pytest.raises(InputError, match="at least 1, got 0"):
        HybridRetriever(qa, similarity_top_k=0)
    with pytest.raises(QuestionError, match="empty"):
        HybridRetriever(qa).retrieve(" ")
    with pytest.raises(UnknownDocumentError, match="`gone`"):
        HybridRetriever(qa, document_ids=["gone"]).retrieve(ASKED)
