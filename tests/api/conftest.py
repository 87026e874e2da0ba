"""A whole service on fake models."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from hybridqa.api.app import create_app, create_service
from hybridqa.config import AnswerConfig, Config, InternalizeConfig, ModelConfig, ServeConfig
from hybridqa.stores.keys import Scope
from hybridqa.testing import (
    FakeEmbedder,
    FakeGenerator,
    FakeInternalizer,
    best_sentence,
    tiny_model,
)
from hybridqa.types import Document
from hybridqa.wiring import Models

Answer = Callable[[str, Sequence[str]], str]
"""From a question and the texts seen to what is answered."""

BASE = tiny_model()
LAMP = "The Corvane lamp was designed by Ilse Marrow in 1987. It weighs 840 grams."
BRIDGE = "The Tamsin bridge was opened in 1931. It is painted green."


class Internalizer(FakeInternalizer):
    task_adapter = None


def fake_models(config: Config, answer: Answer = best_sentence) -> Models:
    """Return models that load in no time; by default they answer by the words of the question."""
    models = Models(config)
    models.base = BASE
    models.generator = FakeGenerator(answer, model_fingerprint=BASE.fingerprint)
    models.embedder = FakeEmbedder(dimension=256)
    models.associative = Internalizer(BASE.fingerprint)
    return models


def fake_config(**serve: Any) -> Config:
    return Config(
        model=ModelConfig(name="fake", reader=None),
        internalize=InternalizeConfig(hypernetwork="/nowhere", locator=None),
        answer=AnswerConfig(passages=2, max_tokens=16, max_question_chars=400),
        serve=ServeConfig(**serve),
    )


class Serving:
    """An app that is up, and clients of it."""

    def __init__(self, root: Path, auth: bool, config: Config) -> None:
        self.root = root
        self._up = ExitStack()
        self.answer: Answer = best_sentence
        """Of its generator; may be replaced at any time."""
        self.models = fake_models(config, lambda question, texts: self.answer(question, texts))
        self.service = create_service(root, config, self.models, auth)
        self.app: FastAPI = create_app(self.service)
        self.client = self._up.enter_context(
            TestClient(self.app, raise_server_exceptions=False, base_url="http://localhost")
        )

    def client_of(self, tenant: str, scope: Scope = Scope.WRITE) -> TestClient:
        """Return a client with a key of its own."""
        assert self.service.keys is not None
        _, secret = self.service.keys.create(tenant, scope)
        # Not entered: the app is up already.
        return TestClient(
            self.app,
            raise_server_exceptions=False,
            base_url="http://localhost",
            headers={"Authorization": f"Bearer {secret}"},
        )

    def know(self, tenant: str = "default", **texts: str) -> None:
        """Let a tenant have documents at once, by id."""
        qa = self.service.tenants.get(tenant).qa
        for key, text in texts.items():
            qa.ingest(Document(id=key, text=text, title=key.title(), source=f"{key}.txt"))

    def close(self) -> None:
        self._up.close()


@pytest.fixture
def serving(tmp_path: Path) -> Iterator[Serving]:
    """Without keys."""
    up = Serving(tmp_path / "home", auth=False, config=fake_config())
    yield up
    up.close()


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Serving]:
    """With keys."""
    up = Serving(tmp_path / "home", auth=True, config=fake_config(max_asking=4))
    yield up
    up.close()
