"""Turn settings into a running system: the one place that connects everything.

Pieces are built when first used, so that listing documents does not load a language model.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Generic, Self, TypeVar

from hybridqa.config import Config, load_yaml
from hybridqa.errors import AdapterError, AdapterMismatchError, ConfigError, InputError
from hybridqa.protocols import ChunkIndex, Embedder, Internalizer
from hybridqa.routing.policy import Policy
from hybridqa.stores.adapters import AdapterStore
from hybridqa.stores.catalog import Catalog
from hybridqa.stores.home import Home
from hybridqa.stores.question_log import QuestionLog
from hybridqa.types import Adapter, AdapterRecord, Answer, Arm, Decision, Document, Style

if TYPE_CHECKING:
    from hybridqa.chunking import Chunker
    from hybridqa.engines.answer import Answerer
    from hybridqa.engines.ingest import Ingested, Ingestor
    from hybridqa.engines.retrieve import Retriever
    from hybridqa.engines.sync import Progress, Synced
    from hybridqa.engines.trace import Trace
    from hybridqa.internalize.associative import AssociativeInternalizer
    from hybridqa.models.base import BaseModel
    from hybridqa.models.generator import TorchGenerator

T = TypeVar("T")

_PACKAGE = Path(__file__).parent
EMBEDDED_CHECKPOINTS = _PACKAGE / "checkpoints" / "smollm2-135m-instruct"
"""The reader and the hypernetwork that ship with the package."""


def load_policy(name_or_path: str) -> Policy:
    """Return a policy that ships with the package (by name) or lies in a YAML file.

    Raises:
        ConfigError: There is no such policy, or it is not valid.
    """
    shipped = _PACKAGE / "configs" / "policy"
    if name_or_path.endswith((".yaml", ".yml")):
        return load_yaml(Policy, Path(name_or_path))
    names = sorted(path.stem for path in shipped.glob("*.yaml"))
    if name_or_path not in names:
        raise ConfigError(
            f"There is no policy `{name_or_path}`. Shipped: {', '.join(names)}; or give the path "
            "of a YAML file."
        )
    return load_yaml(Policy, shipped / f"{name_or_path}.yaml")


class _Part(Generic[T]):
    """An attribute that is built when first used, once, whichever threads ask for it."""

    def __init__(self, build: Callable[[HybridQA], T]) -> None:
        self._build, self._name = build, build.__name__

    def __get__(self, instance: HybridQA, owner: type) -> T:
        with instance._building:
            parts = instance.__dict__  # found there from now on, before this is asked
            if self._name not in parts:
                parts[self._name] = self._build(instance)
            part: T = parts[self._name]
            return part


class HybridQA:
    """A home directory with its documents and adapters, open for questions.

    Example:
        with HybridQA("home") as qa:
            qa.ingest(Document(id="rules", text=..., title="Rules", source="rules.md"))
            print(qa.ask("How long is the notice period?").text)
    """

    def __init__(self, home: str | Path, config: Config = Config()) -> None:  # noqa: B008 - frozen
        """Open or create a home directory; nobody else can until it is closed.

        Raises:
            HomeInUseError: Another process has it open.
            StoreError: It cannot be written, or is not a home directory.
            ConfigError: The config names a policy that is not there.
        """
        self.config = config
        self.policy = load_policy(config.policy)
        self._building = threading.RLock()
        with ExitStack() as stack:
            self.home = stack.enter_context(Home(home))
            self.catalog = Catalog(self.home.catalog_path)
            self.log = QuestionLog(self.home.path / "questions.jsonl", self.catalog.live_hashes)
            stack.callback(self.catalog.close)
            self._closing = stack.pop_all()

    def close(self) -> None:
        self._closing.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # What users do

    def ingest(self, document: Document, internalizer: str | None = None) -> Ingested:
        """Index a document and internalize it.

        Args:
            document: Replaces the one of the same id.
            internalizer: `associative`, `distillation` or `none`; default as configured.
        """
        return self.ingestor.ingest(document, self.internalizer(internalizer))

    def ingest_files(
        self,
        paths: Sequence[str | Path],
        internalizer: str | None = None,
        root: str | Path | None = None,
        progress: Progress | None = None,
    ) -> Synced:
        """Ingest files and folders; documents whose files are gone from the folders are deleted.

        Args:
            paths: Text, Markdown, HTML, PDF and Word files, and folders of them.
            internalizer: As for `ingest`.
            root: Folder that document ids are relative to.
            progress: Called before each file.
        """
        from hybridqa.connectors.files import FileSource
        from hybridqa.engines.sync import sync

        return sync(
            FileSource(paths, root=root),
            self.catalog,
            lambda document: self.ingest(document, internalizer),
            self.delete,
            progress or (lambda done, total, path: None),
        )

    def export_adapter(self, adapter_id: str, folder: str | Path) -> AdapterRecord:
        """Write an adapter with the task adapter under it as one PEFT folder.

        Raises:
            UnknownAdapterError: There is none of that id.
            InputError: The folder is there already and not empty.
        """
        from hybridqa.internalize.export import export_stack

        record, folder = self.catalog.adapter(adapter_id), Path(folder)
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise InputError(f"`{folder}` is there already. Name a new or empty folder.")
        stack = [self.adapters.load(record)]
        if record.task_adapter_id is not None:
            if record.task_adapter_id not in self.task_adapters:
                raise AdapterError(
                    f"Adapter `{record.id[:12]}` lies on the task adapter "
                    f"`{record.task_adapter_id[:12]}`, which this config does not load. Use the "
                    "model, reader and hypernetwork that it was made with."
                )
            stack.insert(0, self.task_adapters[record.task_adapter_id])
        export_stack(folder, stack, self.base.name)
        return record

    def ask(
        self,
        question: str,
        arm: Arm | None = None,
        document_ids: Sequence[str] = (),
        style: Style | None = None,
    ) -> Answer:
        """Answer a question; see `Answerer.ask`."""
        return self.trace(question, arm, document_ids, style).result()

    def trace(
        self,
        question: str,
        arm: Arm | None = None,
        document_ids: Sequence[str] = (),
        style: Style | None = None,
    ) -> Trace:
        """Answer a question, and return all that there is to tell of it; see `Answerer.trace`."""
        self._check(question, document_ids)
        trace = self.answerer.trace(question, arm, document_ids, style)
        if self.config.log_questions:
            from hybridqa.engines.trace import logged

            self.log.append(logged(trace, self.policy.name, self.base.fingerprint))
        return trace

    def explain(
        self, question: str, arm: Arm | None = None, document_ids: Sequence[str] = ()
    ) -> Decision:
        """Return the route a question would take, and why."""
        self._check(question, document_ids)
        return self.answerer.explain(question, arm, document_ids)

    def delete(self, document_id: str) -> list[str]:
        """Delete a document and all made of it; returns the ids of its removed adapters."""
        with self.log.forgetting(document_id):
            return self.ingestor.delete(document_id)

    # What it is made of

    @_Part
    def base(self) -> BaseModel:
        from hybridqa.models.base import BaseModel

        model = self.config.model
        return BaseModel.from_checkpoint(model.name, model.dtype, model.device)

    @_Part
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

    @_Part
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

    @_Part
    def generator(self) -> TorchGenerator:
        from hybridqa.models.generator import TorchGenerator

        return TorchGenerator(self.base)

    @_Part
    def embedder(self) -> Embedder:
        from hybridqa.models.embedder import SentenceTransformerEmbedder

        return SentenceTransformerEmbedder.from_checkpoint(self.config.index.embedder)

    @_Part
    def chunker(self) -> Chunker:
        from hybridqa.chunking import Chunker

        return Chunker(self.base.tokenizer.backend_tokenizer, self.config.index.chunk_tokens)

    @_Part
    def index(self) -> ChunkIndex:
        settings = self.config.index
        index: ChunkIndex
        if settings.url is None:
            from hybridqa.stores.edge_index import EdgeIndex

            index = EdgeIndex(self.home.index_path, self.embedder, settings.tenant)
        else:
            from hybridqa.stores.server_index import ServerIndex

            index = ServerIndex.connect(
                settings.url,
                self.embedder,
                api_key=os.environ.get(settings.api_key_env),
                collection=settings.collection,
                tenant=settings.tenant,
            )
        self._closing.callback(index.close)
        return index

    @_Part
    def adapters(self) -> AdapterStore:
        return AdapterStore(self.home.adapters_path, self.catalog, self.base.name)

    @_Part
    def ingestor(self) -> Ingestor:
        from hybridqa.engines.ingest import Ingestor

        ingestor = Ingestor(
            self.catalog, self.index, self.adapters, self.embedder, self.chunker, _now
        )
        ingestor.recover()
        return ingestor

    @_Part
    def retriever(self) -> Retriever:
        from hybridqa.engines.retrieve import Retriever

        return Retriever(self.embedder, self.index, self.catalog)

    @_Part
    def answerer(self) -> Answerer:
        from hybridqa.engines.answer import Answerer
        from hybridqa.engines.route import Router

        settings = self.config.answer
        _ = self.ingestor  # Finishes what a crash left half-done.
        return Answerer(
            router=Router(
                catalog=self.catalog,
                retriever=self.retriever,
                policy=self.policy,
                model_fingerprint=self.base.fingerprint,
                task_adapter_ids=frozenset(self.task_adapters),
                hits=settings.hits,
                clock=_now,
            ),
            generator=self.generator,
            adapters=self.adapters,
            task_adapters=self.task_adapters,
            reader=self.reader,
            passages=settings.passages,
            max_tokens=settings.max_tokens,
            max_question_chars=settings.max_question_chars,
            count_tokens=lambda text: len(self.base.plain_ids(text)),
        )

    @_Part
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

    @_Part
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

    def internalizer(self, name: str | None = None) -> Internalizer | None:
        """Return an internalizer by name, by default the configured one; `none` is `None`.

        Raises:
            ConfigError: There is none of that name.
        """
        name = name or self.config.internalize.internalizer
        if name == "associative":
            return self.associative
        if name == "distillation":
            return self.distillation
        if name == "none":
            return None
        raise ConfigError(
            f"There is no internalizer `{name}`. Use `associative`, `distillation` or `none`."
        )

    def _check(self, question: str, document_ids: Sequence[str]) -> None:
        """Tell of bad input before any model is loaded."""
        from hybridqa.engines.request import check_documents, checked_question

        checked_question(question, self.config.answer.max_question_chars)
        check_documents(document_ids, self.catalog)

    @property
    def _hypernetwork_folder(self) -> Path:
        name = self.config.internalize.hypernetwork
        return EMBEDDED_CHECKPOINTS / "associative" if name == "embedded" else Path(name)


def _now() -> datetime:
    return datetime.now(UTC)
