from typing import Any

from hybridqa.testing import FakeSystem
from hybridqa.types import Document, Hit


def document(text: str, id: str = "a.md") -> Document:
    return Document(id=id, text=text, title=id, source=id)


def texts(hits: list[Hit]) -> list[str]:
    return [hit.chunk.text for hit in hits]


class KeepsEverything:
    """An index that removes nothing, as if every document were just being replaced."""

    def __init__(self, inner: object) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def remove(self, document_id: str, keep_hash: str | None = None) -> None:
        pass


def test_the_best_live_chunks_come_first(system: FakeSystem) -> None:
    system.ingestor().ingest(document("The bell rings at noon.", "bell.md"))
    system.ingestor().ingest(document("The gate code is walnut.", "gate.md"))

    hits = system.retriever().search("What is the gate code?", 2)

    assert texts(hits) == ["The gate code is walnut.", "The bell rings at noon."]
    assert hits[0].similarity > hits[1].similarity


def test_named_documents_alone_are_searched(system: FakeSystem) -> None:
    system.ingestor().ingest(document("The bell rings at noon.", "bell.md"))
    system.ingestor().ingest(document("The gate code is walnut.", "gate.md"))

    found = system.retriever().search("What is the gate code?", 2, ["bell.md"])

    assert texts(found) == ["The bell rings at noon."]


def test_an_empty_index_yields_nothing(system: FakeSystem) -> None:
    assert system.retriever().search("What is the gate code?", 3) == []


def test_dead_chunks_are_dropped_and_leave_room_for_live_ones(system: FakeSystem) -> None:
    system.index = KeepsEverything(system.index)  # type: ignore[assignment]
    for code in ("walnut", "cedar", "birch"):
        system.ingestor().ingest(document(f"The gate code is {code}."))
    system.ingestor().ingest(document("The bell rings at noon.", "bell.md"))
    system.ingestor().ingest(document("The gate code is plum.", "deleted.md"))
    system.ingestor().delete("deleted.md")
    assert system.index.count() == 5

    found = system.retriever().search("What is the gate code?", 2)

    assert texts(found) == ["The gate code is birch.", "The bell rings at noon."]
