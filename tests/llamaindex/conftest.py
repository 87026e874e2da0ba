"""A home whose models are fakes, and an app's own fakes."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from llama_index.core import Settings
from llama_index.core.base.llms.types import CompletionResponse, LLMMetadata
from llama_index.core.bridge.pydantic import Field
from llama_index.core.embeddings import MockEmbedding
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.llms import CustomLLM, MockLLM

from hybridqa.config import AnswerConfig, Config, InternalizeConfig, ModelConfig
from hybridqa.testing import FakeEmbedder, FakeGenerator, FakeInternalizer, tiny_model
from hybridqa.types import Document
from hybridqa.wiring import HybridQA

LAMP = "The Corvane lamp was designed by Ilse Marrow in 1987. It weighs 840 grams."
BRIDGE = "The Tamsin bridge was opened in 1931. It is painted green."


class CountingInternalizer(FakeInternalizer):
    """Counts what it internalizes."""

    task_adapter = None

    def __init__(self, model_fingerprint: str) -> None:
        super().__init__(model_fingerprint)
        self.texts: list[str] = []

    def internalize(self, document: Document, chunks: Any) -> Any:
        self.texts.append(document.text)
        return super().internalize(document, chunks)


class Homes:
    """Opens homes that all share these models."""

    def __init__(self) -> None:
        self.base = tiny_model()
        fingerprint = self.base.fingerprint
        self.generator = FakeGenerator(model_fingerprint=fingerprint)
        self.embedder = FakeEmbedder(dimension=256)
        self.associative = CountingInternalizer(fingerprint)
        self.config = Config(
            model=ModelConfig(name="fake", reader=None),
            internalize=InternalizeConfig(hypernetwork="/nowhere", locator=None),
            answer=AnswerConfig(passages=2, max_tokens=16),
        )

    def __call__(self, path: str | Path) -> HybridQA:
        qa = HybridQA(path, self.config)
        for part in ("base", "generator", "embedder", "associative"):
            setattr(qa, part, getattr(self, part))
        return qa


class ScriptedLLM(CustomLLM):
    """An app's own LLM that says what a function of the prompt says."""

    answer: Callable[[str], str]
    prompts: list[str] = Field(default_factory=list)

    @property
    def metadata(self) -> LLMMetadata:
        return LLMMetadata(model_name="scripted")

    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        self.prompts.append(prompt)
        return CompletionResponse(text=self.answer(prompt))

    def stream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> Any:
        text = ""
        for delta in self.complete(prompt).text.split(" "):
            text += f"{delta} "
            yield CompletionResponse(text=text, delta=f"{delta} ")


class Listener(BaseEventHandler):
    """Keeps all events."""

    events: list[Any] = Field(default_factory=list)

    def handle(self, event: Any, **kwargs: Any) -> None:
        self.events.append(event)

    def names(self) -> list[str]:
        return [event.class_name() for event in self.events]


@pytest.fixture
def homes() -> Homes:
    return Homes()


@pytest.fixture
def empty(homes: Homes, tmp_path: Path) -> Iterator[HybridQA]:
    with homes(tmp_path / "home") as qa:
        yield qa


@pytest.fixture
def qa(empty: HybridQA) -> HybridQA:
    """A home with two stable documents, both internalized."""
    for name, text in {"lamp": LAMP, "bridge": BRIDGE}.items():
        empty.ingest(Document(id=name, text=text, title=name.title(), source=f"{name}.txt"))
    return empty


@pytest.fixture
def heard() -> Iterator[Listener]:
    listener, root = Listener(), get_dispatcher()
    root.add_event_handler(listener)
    yield listener
    root.event_handlers.remove(listener)


@pytest.fixture
def scripted() -> Callable[[Callable[[str], str]], ScriptedLLM]:
    return lambda answer: ScriptedLLM(answer=answer)


@pytest.fixture(autouse=True)
def _app_settings() -> Iterator[None]:
    """Give the app's global settings models that need no network."""
    Settings.llm, Settings.embed_model = MockLLM(), MockEmbedding(embed_dim=8)
    yield
    Settings._llm = Settings._embed_model = None
