"""A document's adapter behind LlamaIndex's LLM interface."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    ChatResponseAsyncGen,
    CompletionResponse,
    CompletionResponseAsyncGen,
    CompletionResponseGen,
    LLMMetadata,
    MessageRole,
)
from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.core.constants import DEFAULT_CONTEXT_WINDOW
from llama_index.core.llms.callbacks import llm_completion_callback
from llama_index.core.llms.custom import CustomLLM

from hybridqa.errors import InputError, StaleDocumentError
from hybridqa.llamaindex.streams import in_thread
from hybridqa.protocols import Prompt
from hybridqa.types import AdapterRecord, Arm, Style
from hybridqa.wiring import HybridQA


class AdapterLLM(CustomLLM):
    """The home's base model, wearing one document's live adapter at each call.

    A prompt becomes one user turn of the model's own chat template; several messages are written
    out in it, one per line, as the adapters were made for single questions. Of the adapter, the
    share is worn that bears most on the prompt. Nothing is checked or quoted: whoever wants
    checked answers takes a `HybridQueryEngine`.
    """

    document_id: str
    max_tokens: int
    _qa: HybridQA = PrivateAttr()

    def __init__(self, qa: HybridQA, document_id: str, max_tokens: int | None = None) -> None:
        """Choose the document.

        Args:
            qa: Open.
            document_id: Ingested with an adapter.
            max_tokens: Of an answer, at least 1; `None` takes `answer: max_tokens`.

        Raises:
            InputError: `max_tokens` is below 1.
        """
        limit = qa.config.answer.max_tokens if max_tokens is None else max_tokens
        if limit < 1:
            raise InputError(f"`max_tokens` must be at least 1, got {limit}.")
        super().__init__(document_id=document_id, max_tokens=limit, messages_to_prompt=_as_one_turn)
        self._qa = qa

    @classmethod
    def class_name(cls) -> str:
        return "HybridQAAdapterLLM"

    @property
    def metadata(self) -> LLMMetadata:
        base = self._qa.base
        window = getattr(base.model.config, "max_position_embeddings", DEFAULT_CONTEXT_WINDOW)
        return LLMMetadata(
            context_window=window,
            num_output=self.max_tokens,
            is_chat_model=False,
            is_function_calling_model=False,
            model_name=f"{base.name} wearing {self.document_id}",
        )

    @llm_completion_callback()
    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """Return the model's text; `adapter_id` is in `additional_kwargs`.

        Raises:
            UnknownDocumentError: The document does not exist.
            NoLiveAdapterError: It has no adapter.
            AdapterMismatchError: It has one, but for another base model.
            QuestionError: The prompt is empty or exceeds the model's context.
            StaleDocumentError: The document changed meanwhile.
        """
        request, record = self._request(prompt)
        text = self._qa.generator.generate([request])[0].text
        self._check_live(record)
        return CompletionResponse(text=text, additional_kwargs={"adapter_id": record.id})

    @llm_completion_callback()
    def stream_complete(
        self, prompt: str, formatted: bool = False, **kwargs: Any
    ) -> CompletionResponseGen:
        """Yield the text as the model writes it; errors are those of `complete`.

        That the document has changed is known, and raised, only at the end.
        """

        def pieces(request: Prompt, record: AdapterRecord) -> CompletionResponseGen:
            text, told = "", {"adapter_id": record.id}
            for delta in self._qa.generator.stream(request):
                text += delta
                yield CompletionResponse(text=text, delta=delta, additional_kwargs=told)
            self._check_live(record)

        return pieces(*self._request(prompt))

    async def acomplete(
        self, prompt: str, formatted: bool = False, **kwargs: Any
    ) -> CompletionResponse:
        return await asyncio.to_thread(self.complete, prompt, formatted, **kwargs)

    async def astream_complete(
        self, prompt: str, formatted: bool = False, **kwargs: Any
    ) -> CompletionResponseAsyncGen:
        return in_thread(await asyncio.to_thread(self.stream_complete, prompt, formatted, **kwargs))

    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        return await asyncio.to_thread(self.chat, messages, **kwargs)

    async def astream_chat(
        self, messages: Sequence[ChatMessage], **kwargs: Any
    ) -> ChatResponseAsyncGen:
        return in_thread(await asyncio.to_thread(self.stream_chat, messages, **kwargs))

    def _request(self, prompt: str) -> tuple[Prompt, AdapterRecord]:
        from hybridqa.engines.prompts import Prompts, Worn

        qa = self._qa
        about = prompt.strip()[
            -qa.config.answer.max_question_chars :
        ]  # a chat ends on its question
        record = qa.explain(about, Arm.ADAPTER, [self.document_id]).adapter
        assert record is not None, "a decision for an adapter carries one"
        hits = qa.retriever.search(about, qa.config.answer.hits, [self.document_id])
        prompts = Prompts(qa.adapters, qa.task_adapters, qa.reader, self.max_tokens)
        # Worn whatever is asked: who asks an LLM wants it to write.
        return prompts.worn(prompt, Worn.by(record, hits), Style.FREE), record

    def _check_live(self, record: AdapterRecord) -> None:
        if self._qa.catalog.live_hash(self.document_id) != record.content_hash:
            raise StaleDocumentError(
                f"Document `{self.document_id}` changed while the adapter `{record.id[:12]}` of "
                "its former text was writing. Ask again."
            )


def _as_one_turn(messages: Sequence[ChatMessage]) -> str:
    if len(messages) == 1 and messages[0].role is MessageRole.USER:
        return messages[0].content or ""
    return "\n".join(f"{message.role.value}: {message.content or ''}" for message in messages)
