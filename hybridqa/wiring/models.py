"""The models of a process: what all homes that it has open can share."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from hybridqa.config import Config
from hybridqa.errors import AdapterError, AdapterMismatchError, ConfigError
from hybridqa.models.turns import Turns
from hybridqa.protocols import Embedder, Generator, Internalizer, Locator
from hybridqa.types import Adapter
from hybridqa.wiring.part import Part

if TYPE_CHECKING:
    from hybridqa.chunking import Chunker
    from hybridqa.internalize.associative import AssociativeInternalizer
    from hybridqa.models.base import BaseModel

_CHECKPOINTS = Path(__file__).parents[1] / "checkpoints"
EMBEDDED_CHECKPOINTS = _CHECKPOINTS / "smollm2-135m-instruct"
"""The reader and the hypernetwork that ship with the package."""
EMBEDDED_LOCATOR = _CHECKPOINTS / "locator"
"""Fits any model."""


class Models:
    """Each is loaded when first used, once. None of them knows of any document."""

    def __init__(self, config: Config, max_batch: int = 1) -> None:
        """Keep the settings.

        Args:
            config: All settings.
            max_batch: Questions that may be generated together; more than one starts a thread, and
                `close` ends it.
        """
        self.config, self._max_batch = config, max_batch
        self._building = threading.RLock()
        self._turns = Turns()
        self._closing = ExitStack()

    def close(self) -> None:
        """Finish what is being generated. Closing twice is fine."""
        self._closing.close()

    def forget(self, realm: str) -> None:
        """Drop what the models keep of a realm's prompts."""
        if "generator" in self.__dict__:  # else it has read nothing yet
            self.generator.forget(realm)

    @Part
    def base(self) -> BaseModel:
        from hybridqa.models.base import BaseModel

        model = self.config.model
        return BaseModel.from_checkpoint(model.name, model.dtype, model.device, self._turns)

    @Part
    def reader(self) -> Adapter | None:
        from hybridqa.models.lora import stack
        from hybridqa.stores.task_adapters import load_task_adapter

        folder = self.config.model.reader
        if folder is None:
            return None
        path = EMBEDDED_CHECKPOINTS / "reader" if folder == "embedded" else Path(folder)
        try:
            reader = load_task_adapter(path, self.base.fingerprint)
            stack(self.base.model, [[reader]])
        except AdapterError as exc:
            raise ConfigError(
                f"The reader `{folder}` does not fit the model `{self.base.name}`: {exc} Set "
                "`model: reader:` to `null`, or to a reader that was trained for this model."
            ) from exc
        return reader

    @Part
    def task_adapters(self) -> Mapping[str, Adapter]:
        """By id, what adapters in the catalog may have been made on.

        An id depends on the model too, so one that does not fit is never looked up.
        """
        from hybridqa.internalize.associative import TASK_ADAPTER
        from hybridqa.stores.task_adapters import load_task_adapter

        adapters = [self.reader] if self.reader else []
        folder = self._hypernetwork_folder / TASK_ADAPTER
        if folder.is_dir():
            with suppress(AdapterMismatchError):  # another model's: nothing was made on it
                adapters.append(load_task_adapter(folder, self.base.fingerprint))
        return {adapter.id: adapter for adapter in adapters}

    @Part
    def locator(self) -> Locator | None:
        from hybridqa.internalize.locator import TorchLocator

        name, base = self.config.internalize.locator, self.base
        if name is None:
            return None
        folder = EMBEDDED_LOCATOR if name == "embedded" else Path(name)
        locator = TorchLocator.from_checkpoint(folder, self._turns, base.dtype, base.device)
        if self._max_batch == 1:
            return locator
        from hybridqa.models.together import BatchingLocator

        batching = BatchingLocator(locator, self._max_batch)
        self._closing.callback(batching.close)
        return batching

    @Part
    def generator(self) -> Generator:
        from hybridqa.internalize.locating import LocatingGenerator

        generator = self._decoding()
        return LocatingGenerator(generator, self.locator) if self.locator else generator

    def _decoding(self) -> Generator:
        from hybridqa.models.generator import TorchGenerator

        if self._max_batch == 1:
            return TorchGenerator(self.base)
        from hybridqa.models.batching import BatchingGenerator

        generator = TorchGenerator(self.base, prefix_bytes=self.config.serve.prompt_cache_bytes)
        batching = BatchingGenerator(generator, self._max_batch)
        self._closing.callback(batching.close)
        return batching

    @Part
    def embedder(self) -> Embedder:
        from hybridqa.models.embedder import SentenceTransformerEmbedder

        embedder = SentenceTransformerEmbedder.from_checkpoint(
            self.config.index.embedder, lock=self._turns
        )
        if self._max_batch == 1:
            return embedder
        from hybridqa.models.together import BatchingEmbedder

        batching = BatchingEmbedder(embedder, self._max_batch)
        self._closing.callback(batching.close)
        return batching

    @Part
    def chunker(self) -> Chunker:
        from hybridqa.chunking import Chunker

        return Chunker(self.base.tokenizer.backend_tokenizer, self.config.index.chunk_tokens)

    @Part
    def associative(self) -> AssociativeInternalizer:
        from hybridqa.internalize.associative import AssociativeInternalizer

        settings = self.config.internalize
        return AssociativeInternalizer.from_checkpoint(
            self._hypernetwork_folder,
            self.base,
            rank=settings.rank,
            max_rank=settings.max_rank,
            max_chunks=settings.max_chunks,
        )

    @Part
    def perceiver(self) -> Internalizer:
        from hybridqa.internalize.doc_to_lora import PerceiverInternalizer

        settings = self.config.internalize
        return PerceiverInternalizer.from_checkpoint(
            self._hypernetwork_folder,
            self.base,
            max_rank=settings.max_rank,
            max_chunks=settings.max_chunks,
            low_memory=settings.low_memory,
        )

    @Part
    def refinement(self) -> Internalizer:
        from hybridqa.internalize.checkpoint import checkpoint_kind
        from hybridqa.internalize.refinement import RefinementInternalizer

        settings = self.config.internalize
        first = self._internalizer(checkpoint_kind(self._hypernetwork_folder))
        assert first is not None, "a hypernetwork is of one kind or another"
        return RefinementInternalizer(
            first,
            generator=self.generator,
            base=self.base,
            reader=self.reader,
            steps=settings.refinement_steps,
            questions=settings.refinement_questions,
        )

    @Part
    def distillation(self) -> Internalizer:
        from hybridqa.internalize.distillation import DistillationInternalizer

        settings = self.config.internalize
        return DistillationInternalizer(
            generator=self.generator,
            base=self.base,
            task_adapter=self.reader,
            rank=settings.rank,
            steps=settings.distillation_steps,
            questions=settings.distillation_questions,
            max_chunks=settings.max_chunks,
        )

    def internalizer(self, name: str | None = None, places: bool = True) -> Internalizer | None:
        """Return an internalizer by name, by default the configured one; `none` is `None`.

        Args:
            name: Of those that the config may name.
            places: Whether its adapters have places, if there is a locator.

        Raises:
            ConfigError: There is none of that name, or the hypernetwork is of another kind.
        """
        from hybridqa.internalize.locating import LocatingInternalizer

        found = self._internalizer(name or self.config.internalize.internalizer)
        locator = self.locator if found and places else None
        return LocatingInternalizer(found, locator) if found and locator else found

    def _internalizer(self, name: str) -> Internalizer | None:
        if name in ("associative", "perceiver"):
            if name not in self.__dict__:  # else it was loaded, or set
                self._check_kind(name)
            return self.associative if name == "associative" else self.perceiver
        if name in ("refinement", "distillation"):
            return self.refinement if name == "refinement" else self.distillation
        if name == "none":
            return None
        raise ConfigError(
            f"There is no internalizer `{name}`. Use `associative`, `perceiver`, `refinement`, "
            "`distillation` or `none`."
        )

    def _check_kind(self, wanted: str) -> None:
        from hybridqa.internalize.checkpoint import checkpoint_kind

        folder = self._hypernetwork_folder
        kind = checkpoint_kind(folder)
        if kind != wanted:
            raise ConfigError(
                f"The hypernetwork `{folder}` makes `{kind}` adapters, and `{wanted}` ones are "
                f"wanted. Set `internalize: internalizer:` to `{kind}`, or `hypernetwork:` to the "
                f"folder of a checkpoint of the kind `{wanted}`."
            )

    @property
    def _hypernetwork_folder(self) -> Path:
        name = self.config.internalize.hypernetwork
        return EMBEDDED_CHECKPOINTS / "associative" if name == "embedded" else Path(name)
