"""Find what may answer a question and decide on an arm; nothing is generated here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from hybridqa.engines.request import check_documents
from hybridqa.engines.retrieve import Retriever
from hybridqa.engines.stopwatch import Stopwatch
from hybridqa.errors import AdapterMismatchError, NoLiveAdapterError
from hybridqa.routing.conditions import Candidate
from hybridqa.routing.decision import decide
from hybridqa.routing.policy import Policy
from hybridqa.routing.query_signals import query_signals
from hybridqa.stores.catalog import Catalog
from hybridqa.types import AdapterRecord, AdapterState, Arm, Decision, Hit


@dataclass(frozen=True, kw_only=True)
class Routed:
    """A decision with what it rests on."""

    decision: Decision
    hits: Sequence[Hit]
    """Best first."""
    candidates: Sequence[Candidate]
    """One per document that was hit, best first."""
    at: datetime
    """When it was decided."""
    policy: Policy
    """In force then; checks of the answer follow it, too."""


class Router:
    """Routes questions by policy."""

    def __init__(
        self,
        catalog: Catalog,
        retriever: Retriever,
        policy: Callable[[], Policy],
        model_fingerprint: str,
        task_adapter_ids: frozenset[str],
        hits: int,
        clock: Callable[[], datetime],
    ) -> None:
        """Wire the collaborators.

        Args:
            catalog: Knows which revisions and adapters are live.
            retriever: Finds evidence.
            policy: Returns the one in force, which decides.
            model_fingerprint: Adapters made for another model are left out.
            task_adapter_ids: Adapters that lie on any other task adapter are left out.
            hits: How many to look at.
            clock: Returns the time, timezone-aware.
        """
        self._catalog, self._retriever, self._policy = catalog, retriever, policy
        self._model_fingerprint, self._task_adapter_ids = model_fingerprint, task_adapter_ids
        self._hits, self._clock = hits, clock

    def route(
        self,
        question: str,
        arm: Arm | None = None,
        document_ids: Sequence[str] = (),
        watch: Stopwatch | None = None,
    ) -> Routed:
        """Decide on an arm.

        Args:
            question: In plain words.
            arm: The caller's choice; `None` lets the policy decide.
            document_ids: Look at these documents only; empty searches all.
            watch: Told the time of `retrieve` and `route`.

        Raises:
            UnknownDocumentError: A named document does not exist.
            NoLiveAdapterError: `arm` wears an adapter and the best document has none.
            AdapterMismatchError: It has one, but for another base model.
        """
        watch, policy = watch or Stopwatch(), self._policy()
        check_documents(document_ids, self._catalog)
        with watch.stage("retrieve"):
            hits = self._retriever.search(question, self._hits, list(document_ids) or None)
        with watch.stage("route"):
            candidates = self._candidates(hits)
            query, now = query_signals(question), self._clock()
            try:
                decision = decide(query, candidates, policy, now, arm=arm)
            except NoLiveAdapterError as exc:
                self._explain_mismatch(exc)
                raise
        return Routed(decision=decision, hits=hits, candidates=candidates, at=now, policy=policy)

    def is_current(self, routed: Routed) -> bool:
        """Tell whether all texts looked at, passages and documents, are still the live ones."""
        seen = {(hit.chunk.document_id, hit.chunk.content_hash) for hit in routed.hits}
        for candidate in routed.candidates:  # read after the hits, maybe another revision
            seen.add((candidate.record.document.id, candidate.record.document.content_hash))
        live = self._catalog.live_hashes({document_id for document_id, _ in seen})
        return all(live.get(document_id) == content_hash for document_id, content_hash in seen)

    def _candidates(self, hits: Sequence[Hit]) -> list[Candidate]:
        similarity: dict[str, float] = {}
        for hit in hits:
            known = similarity.get(hit.chunk.document_id, -1.0)
            similarity[hit.chunk.document_id] = max(known, hit.similarity)
        candidates = []
        for document_id, best in similarity.items():
            record = self._catalog.find(document_id)
            if record is not None:
                adapter = self._live_adapter(document_id, record.document.content_hash)
                candidates.append(Candidate(record=record, adapter=adapter, similarity=best))
        return candidates

    def _explain_mismatch(self, error: NoLiveAdapterError) -> None:
        """Raise what says more, if the document's adapters are for another model."""
        if error.document_id is not None:
            for adapter in self._catalog.adapters(error.document_id, AdapterState.LIVE):
                if adapter.model_fingerprint != self._model_fingerprint:
                    raise AdapterMismatchError(
                        adapter.id, adapter.model_fingerprint, self._model_fingerprint
                    ) from error

    def _live_adapter(self, document_id: str, content_hash: str) -> AdapterRecord | None:
        """Return the newest live adapter that this process can put on."""
        for record in self._catalog.live_adapters(
            document_id, content_hash, self._model_fingerprint
        ):
            if record.task_adapter_id is None or record.task_adapter_id in self._task_adapter_ids:
                return record
        return None
