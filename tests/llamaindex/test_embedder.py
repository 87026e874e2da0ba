from pathlib import Path
from typing import Any

import numpy as np
import pytest
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.embeddings import MockEmbedding

from hybridqa.errors import ModelError, StoreError
from hybridqa.llamaindex import AppEmbedder, HybridQueryEngine
from hybridqa.testing import FakeEmbedder
from hybridqa.types import Document

TEXT = "The Corvane lamp was designed by Ilse Marrow in 1987."


class AppsModel(BaseEmbedding):
    """Not normalized, as many are; may give wrong vectors on purpose."""

    scale: float = 3.0
    cut: int = 0

    def _get_text_embedding(self, text: str) -> list[float]:
        vector = FakeEmbedder(dimension=32).embed([text])[0] * self.scale
        kept: list[float] = vector.tolist()[: 32 - self.cut]
        return kept

    _get_query_embedding = _get_text_embedding

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)


def test_the_apps_model_finds_and_answers(homes: Any, tmp_path: Path) -> None:
    homes.embedder = AppEmbedder(AppsModel())
    with homes(tmp_path) as qa:
        qa.ingest(Document(id="lamp", text=TEXT, title="", source=""))
        assert str(HybridQueryEngine(qa).query("Who designed the Corvane lamp?")) == TEXT


def test_vectors_have_unit_length() -> None:
    embedder = AppEmbedder(AppsModel())

    vectors = embedder.embed(["one", "two words"])
    assert vectors.shape == (2, embedder.dimension)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx([1.0, 1.0])
    assert embedder.embed([]).shape == (0, 32)


def test_an_index_of_another_model_is_refused(homes: Any, tmp_path: Path) -> None:
    homes.embedder = AppEmbedder(AppsModel(model_name="a"))
    with homes(tmp_path) as qa:
        qa.ingest(Document(id="lamp", text=TEXT, title="", source=""))
    homes.embedder = AppEmbedder(AppsModel(model_name="b"))
    with homes(tmp_path) as qa, pytest.raises(StoreError, match="embedder"):
        qa.ask("Who designed the lamp?")


def test_unusable_vectors_are_told() -> None:
    with pytest.raises(ModelError, match="dimension 0"):
        AppEmbedder(MockEmbedding(embed_dim=0))
    model = AppsModel()
    embedder = AppEmbedder(model)
    model.cut = 2
    with pytest.raises(ModelError, match=r"dimensions \[30\].*not of 32"):
        embedder.embed(["text"])
    model.cut, model.scale = 0, 0.0
    with pytest.raises(ModelError, match="above 0"):
        embedder.embed(["text"])
