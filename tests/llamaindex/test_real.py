"""The seams on the embedded model: what the fakes cannot show."""

from pathlib import Path

import pytest
from llama_index.core.schema import QueryBundle

from hybridqa import Document, HybridQA
from hybridqa.llamaindex import AdapterLLM, HybridQueryEngine

TEXT = "The Corvane lamp was designed by Ilse Marrow in 1987. It weighs 840 grams."
ASKED = "Who designed the Corvane lamp?"


@pytest.mark.real
def test_engine_and_llm_on_the_embedded_model(tmp_path: Path) -> None:
    with HybridQA(tmp_path / "home") as qa:
        qa.ingest(Document(id="lamp", text=TEXT, title="Lamp", source="lamp.txt"))
        engine, llm = HybridQueryEngine(qa), AdapterLLM(qa, "lamp")
        bundle = QueryBundle(ASKED)

        response = engine.query(ASKED)
        read = engine.synthesize(bundle, engine.retrieve(bundle))
        pieces = [piece.delta or "" for piece in llm.stream_complete(ASKED)]
        written = llm.complete(ASKED).text

    assert "Ilse Marrow" in str(response)
    assert "Ilse Marrow" in str(read)
    assert len(pieces) > 2
    assert "".join(pieces) == written
