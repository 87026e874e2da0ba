import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from llama_index.core.llms import ChatMessage, MessageRole
from llama_index.core.query_engine import RetrieverQueryEngine

from hybridqa.errors import (
    InputError,
    NoLiveAdapterError,
    QuestionError,
    StaleDocumentError,
    UnknownDocumentError,
)
from hybridqa.llamaindex import AdapterLLM, HybridRetriever
from hybridqa.protocols import Prompt
from hybridqa.testing import FakeGenerator, written_text
from hybridqa.types import Document
from hybridqa.wiring import HybridQA

ASKED = "Who designed the Corvane lamp?"
SAID = "The Corvane lamp was designed by Ilse Marrow in 1987."


class Streamer(FakeGenerator):
    """Streams word by word, and does something in the middle."""

    meanwhile: Any = staticmethod(lambda: None)

    def stream(self, prompt: Prompt) -> Iterator[str]:
        for word in self.generate([prompt])[0].text.split():
            self.meanwhile()
            yield f"{word} "


def test_it_completes_from_the_documents_adapter_alone(qa: HybridQA, homes: Any) -> None:
    response = AdapterLLM(qa, "lamp", max_tokens=7).complete(ASKED)

    assert response.text == SAID
    assert response.additional_kwargs["adapter_id"] == qa.catalog.adapters("lamp")[0].id
    (prompt,) = homes.generator.prompts
    assert (prompt.question, prompt.passages, prompt.max_tokens) == (ASKED, (), 7)
    assert [written_text(adapter) for adapter in prompt.adapters] == [
        qa.catalog.get("lamp").document.text
    ]


def test_another_document_wears_its_own(qa: HybridQA) -> None:
    assert AdapterLLM(qa, "bridge").complete("What is painted?").text == "It is painted green."


def test_one_message_is_one_turn_and_more_are_written_out(qa: HybridQA, homes: Any) -> None:
    llm = AdapterLLM(qa, "lamp")
    llm.chat([ChatMessage(role=MessageRole.USER, content=ASKED)])
    answer = llm.chat(
        [
            ChatMessage(role=MessageRole.SYSTEM, content="Be brief."),
            ChatMessage(role=MessageRole.USER, content=ASKED),
        ]
    )

    assert answer.message.content == SAID
    assert [prompt.question for prompt in homes.generator.prompts] == [
        ASKED,
        f"system: Be brief.\nuser: {ASKED}",
    ]


def test_streams_grow_piece_by_piece(qa: HybridQA, homes: Any) -> None:
    qa.generator = Streamer(model_fingerprint=homes.base.fingerprint)
    pieces = list(AdapterLLM(qa, "lamp").stream_complete(ASKED))

    assert len(pieces) == len(SAID.split())
    assert pieces[-1].text.strip() == SAID
    assert "".join(piece.delta or "" for piece in pieces).strip() == SAID


def test_async_ways_say_the_same(qa: HybridQA) -> None:
    llm, messages = AdapterLLM(qa, "lamp"), [ChatMessage(content=ASKED)]

    async def say() -> list[str | None]:
        streamed = [piece.delta async for piece in await llm.astream_complete(ASKED)]
        chatted = [piece.delta async for piece in await llm.astream_chat(messages)]
        return [
            (await llm.acomplete(ASKED)).text,
            (await llm.achat(messages)).message.content,
            "".join(map(str, streamed)),
            "".join(map(str, chatted)),
        ]

    assert asyncio.run(say()) == [SAID] * 4


def test_its_metadata_is_the_models(qa: HybridQA) -> None:
    told = AdapterLLM(qa, "lamp").metadata

    assert told.context_window == 4096
    assert told.num_output == 16
    assert not told.is_function_calling_model
    assert told.model_name == "tiny-random-llama wearing lamp"


def test_a_stock_engine_takes_it(qa: HybridQA) -> None:
    engine = RetrieverQueryEngine.from_args(HybridRetriever(qa), llm=AdapterLLM(qa, "lamp"))

    assert "lamp" in str(engine.query(ASKED))


def test_a_document_that_changes_meanwhile_is_told(qa: HybridQA, homes: Any) -> None:
    generator = Streamer(model_fingerprint=homes.base.fingerprint)
    changed = Document(id="lamp", text="There is no lamp.", title="Lamp", source="lamp.txt")
    generator.meanwhile = lambda: qa.ingest(changed)
    qa.generator = generator

    with pytest.raises(StaleDocumentError, match="`lamp` changed"):
        list(AdapterLLM(qa, "lamp").stream_complete(ASKED))


def test_bad_input_is_told(qa: HybridQA) -> None:
    with pytest.raises(InputError, match="at least 1, got 0"):
        AdapterLLM(qa, "lamp", max_tokens=0)
    with pytest.raises(UnknownDocumentError, match="`gone`"):
        AdapterLLM(qa, "gone").complete(ASKED)
    with pytest.raises(QuestionError, match="empty"):
        AdapterLLM(qa, "lamp").complete(" ")
    qa.ingest(Document(id="new", text="The new lamp.", title="", source=""), "none")
    with pytest.raises(NoLiveAdapterError, match="`new`"):
        AdapterLLM(qa, "new").complete(ASKED)
