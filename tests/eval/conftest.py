"""A home whose models are fakes, and towns on rivers to ask it about."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hybridqa.config import AnswerConfig, Config, IndexConfig, InternalizeConfig, ModelConfig
from hybridqa.eval.cases import Case, Dataset, Span
from hybridqa.testing import FakeEmbedder, FakeGenerator, FakeInternalizer, tiny_model
from hybridqa.types import Document
from hybridqa.wiring import HybridQA

RIVERS = {"Lune": "Lancaster", "Derwent": "Derby", "Ribble": "Preston", "Nidd": "Knaresborough"}


def town(question: str, texts: Sequence[str]) -> str:
    """Answer with the first town that stands in the texts."""
    known = " ".join(texts)
    return min((t for t in RIVERS.values() if t in known), key=known.index, default="Paris")


class NamedInternalizer(FakeInternalizer):
    """Counts what it internalizes."""

    task_adapter = None

    def __init__(self, name: str, model_fingerprint: str) -> None:
        super().__init__(model_fingerprint, fingerprint=f"fake {name}")
        self.name = name
        self.calls: list[str] = []

    def internalize(self, document: Document, chunks: Any) -> Any:
        self.calls.append(document.id)
        made = super().internalize(document, chunks)
        (layer,) = made.adapter.layers.values()
        layer.up.fill_(len(self.name) * 1e-30)  # no two internalizers make the same adapter
        return replace(made, seconds=1.0 if self.name == "associative" else 10.0)


_PARTS = (
    "base",
    "generator",
    "embedder",
    "associative",
    "distillation",
    "refinement",
    "locator",
)


class FakeHomes:
    """Opens homes that all share these models, as one machine does from one start to the next."""

    def __init__(self) -> None:
        self.base = tiny_model()
        fingerprint = self.base.fingerprint
        self.generator = FakeGenerator(answer=town, model_fingerprint=fingerprint)
        self.embedder = FakeEmbedder(dimension=256)
        self.associative = NamedInternalizer("associative", fingerprint)
        self.distillation = NamedInternalizer("distillation", fingerprint)
        self.refinement = NamedInternalizer("refinement", fingerprint)
        self.locator: Any = None
        self.config = Config(
            model=ModelConfig(name="fake", reader=None),
            internalize=InternalizeConfig(hypernetwork="/nowhere", locator=None),
            answer=AnswerConfig(passages=2, max_tokens=5),
            index=IndexConfig(url="http://a.server.that.must.not.be.asked"),
        )

    def __call__(self, path: Path, config: Config) -> HybridQA:
        qa = HybridQA(path, config)
        for part in _PARTS:
            setattr(qa, part, getattr(self, part))
        return qa


@pytest.fixture
def homes() -> FakeHomes:
    return FakeHomes()


@pytest.fixture
def rivers() -> Dataset:
    """Four documents, a question about each, and one that none answers."""
    documents, cases = [], []
    for river, at in RIVERS.items():
        text = f"{at} lies on the river {river}."
        documents.append(Document(id=river, text=text, title=river, source=river))
        cases.append(
            Case(
                id=f"q-{river}",
                question=f"What lies on the {river}?",
                answers=(at,),
                documents=(river,),
                spans=(Span(document=river, start=0, end=len(at)),),
                labels={"question_type": "what"},
            )
        )
    nobody = Case(id="q-none", question="Who dug the canal?", answers=(), documents=())
    return Dataset(name="rivers", documents=tuple(documents), cases=(*cases, nobody))
