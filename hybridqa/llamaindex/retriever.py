"""Our hybrid search behind LlamaIndex's retriever interface."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.callbacks.base import CallbackManager
from llama_index.core.schema import NodeWithScore, QueryBundle

from hybridqa.engines.request import check_documents, checked_question
from hybridqa.errors import InputError
from hybridqa.llamaindex.nodes import to_nodes
from hybridqa.wiring import HybridQA


class HybridRetriever(BaseRetriever):
    """Finds passages by meaning and words, in live revisions only."""

    def __init__(
        self,
        qa: HybridQA,
        similarity_top_k: int | None = None,
        document_ids: Sequence[str] = (),
        callback_manager: CallbackManager | None = None,
    ) -> None:
        """Wire the home.

        Args:
            qa: Open.
            similarity_top_k: Most nodes to return, at least 1; `None` takes `answer: hits`.
            document_ids: Search these only; empty searches all.
            callback_manager: As in any retriever.

        Raises:
            InputError: `similarity_top_k` is below 1.
        """
        limit = qa.config.answer.hits if similarity_top_k is None else similarity_top_k
        if limit < 1:
            raise InputError(f"`similarity_top_k` must be at least 1, got {limit}.")
        self._qa, self._limit, self._document_ids = qa, limit, tuple(document_ids)
        super().__init__(callback_manager=callback_manager)

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        """Return nodes as `to_nodes` tells.

        Raises:
            QuestionError: The query is empty or too long.
            UnknownDocumentError: One of the documents does not exist (any more).
        """
        limit = self._qa.config.answer.max_question_chars
        question = checked_question(query_bundle.query_str, limit)
        check_documents(self._document_ids, self._qa.catalog)
        hits = self._qa.retriever.search(question, self._limit, self._document_ids or None)
        return to_nodes(hits, self._qa.catalog)

    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return await asyncio.to_thread(self._retrieve, query_bundle)
