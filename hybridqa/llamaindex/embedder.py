"""The app's own embedding model for our index."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

import numpy as np
from llama_index.core.base.embeddings.base import BaseEmbedding
from numpy.typing import NDArray

from hybridqa.errors import ModelError


class AppEmbedder:
    """An `Embedder` by a LlamaIndex embedding model.

    Set it before the home is first used: `qa.embedder = AppEmbedder(Settings.embed_model)`. An
    index that was built with another embedder is refused, not mixed.

    Questions are embedded as texts are: a model that treats the two differently by instruction
    loses that difference here.
    """

    def __init__(self, model: BaseEmbedding) -> None:
        """Embed one text to learn the dimension.

        Raises:
            ModelError: The model gives no usable vector.
        """
        self._model = model
        self._dimension = len(model.get_text_embedding("dimension"))
        if not self._dimension:
            raise ModelError(
                f"The embedding model `{model.model_name}` gives vectors of dimension 0, at least "
                "1 is needed. Check its settings."
            )

    @property
    def dimension(self) -> int:
        return self._dimension

    @property
    def fingerprint(self) -> str:
        """Hash of the model's class, name and dimension: its weights are not ours to see."""
        told = [self._model.class_name(), self._model.model_name, self._dimension]
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return unit vectors of shape (len(texts), dimension).

        Raises:
            ModelError: The model gave vectors of another dimension, not finite, or zero.
        """
        vectors = np.zeros((0, self._dimension), dtype=np.float32)
        if texts:
            made = self._model.get_text_embedding_batch(list(texts))
            if {len(vector) for vector in made} != {self._dimension} or len(made) != len(texts):
                raise ModelError(
                    f"The embedding model `{self._model.model_name}` gave {len(made)} vectors of "
                    f"dimensions {sorted({len(v) for v in made})} for {len(texts)} texts, not of "
                    f"{self._dimension} as before. Use one model per home."
                )
            vectors = np.asarray(made, dtype=np.float32)
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        if not (np.isfinite(lengths) & (lengths > 0)).all():
            raise ModelError(
                f"The embedding model `{self._model.model_name}` gave a vector of length "
                f"{float(lengths.min())}; it must be finite and above 0. Check the model."
            )
        unit: NDArray[np.float32] = vectors / lengths
        return unit
