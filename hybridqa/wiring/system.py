"""A home with its stores and engines, connected."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Generic, Self, TypeVar

from hybridqa.config import Config
from hybridqa.errors import AdapterError, InputError
from hybridqa.protocols import ChunkIndex, Embedder, Generator, Internalizer, Locator
from hybridqa.stores.adapters import AdapterStore
from hybridqa.stores.catalog import Catalog
from hybridqa.stores.home import Home
from hybridqa.stores.policies import PolicyStore, StoredPolicy
from hybridqa.stores.question_log import QuestionLog
from hybridqa.types import Adapter, AdapterRecord, Answer, Arm, Decision, Document, Style
from hybridqa.wiring.models import Models
from hybridqa.wiring.part import Part
from hybridqa.wiring.policies import load_policy, parse_policy, stored_policy

if TYPE_CHECKING:
    from hybridqa.chunking import Chunker
    from hybridqa.engines.answer import Answerer
    from hybridqa.engines.ingest import Ingested, Ingestor
    from hybridqa.engines.retrieve import Retriever
    from hybridqa.engines.route import Routed
    from hybridqa.engines.sync import Progress, Synced
    from hybridqa.engines.trace import Trace
    from hybridqa.internalize.associative import AssociativeInternalizer
    from hybridqa.models.base import BaseModel

T = TypeVar("T")


class _Shared(Generic[T]):
    """One of the models, by its name there; setting it sets it there."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, instance: HybridQA, owner: type) -> T:
        found: T = getattr(instance.models, self._name)
        return found

    def __set__(self, instance: HybridQA, value: T) -> None:
        setattr(instance.models, self._name, value)


class HybridQA:
    """A home directory with its documents and adapters, open for questions.

    Example:
        with HybridQA("home") as qa:
            qa.ingest(Document(id="rules", text=..., title="Rules", source="rules.md"))
            print(qa.ask("How long is the notice period?").text)
    """

    def __init__(
        self,
        home: str | Path,
        config: Config = Config(),  # noqa: B008 - frozen
        models: Models | None = None,
    ) -> None:
        """Open or create a home directory; nobody else can until it is closed.

        Args:
            home: Created if it is not there.
            config: All settings.
            models: Shared with other homes that are open; made for the same `config.model`,
                `config.internalize` and `config.index`.

        Raises:
            HomeInUseError: Another process has it open.
            StoreError: It cannot be written, is not a home directory, or its own policy, which goes
                before the config's, is damaged.
            ConfigError: The config names a policy that is not there.
        """
        self.config = config
        self.models = models or Models(config)
        configured = load_policy(config.policy)  # before anything is made on disk
        self._building = threading.RLock()
        self._putting = threading.Lock()
        with ExitStack() as stack:
            self.home = stack.enter_context(Home(home))
            self.catalog = Catalog(self.home.catalog_path)
            self.log = QuestionLog(self.home.path / "questions.jsonl", self.catalog.live_hashes)
            stack.callback(self.catalog.close)
            self.policies = PolicyStore(self.home.path / "policies")
            self.policy = stored_policy(self.policies) or configured
            """In force for every question from now on; may be replaced at any time."""
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
            internalizer: `associative`, `perceiver`, `refinement`, `distillation` or `none`; by
                default as configured.
        """
        ingested = self.ingestor.ingest(document, self.internalizer(internalizer))
        if ingested.status is ingested.status.CHANGED:
            self.models.forget(self._realm)
        return ingested

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

    def export_adapter(
        self,
        adapter_id: str,
        folder: str | Path,
        *,
        part: int | None = None,
        rank: int | None = None,
        file_format: str = "peft",
    ) -> AdapterRecord:
        """Write an adapter with the task adapter under it, for other programs to load.

        Args:
            adapter_id: Its id.
            folder: New or empty.
            part: Number, from 0, of the one of its `shares` that is written; by default all are.
                Questions are answered here with one at a time: together they disturb each other.
            rank: Of every module, as in `export_stack`; for PEFT's format only.
            file_format: `peft`, or `gguf` for llama.cpp.

        Raises:
            UnknownAdapterError: There is none of that id.
            InputError: The folder is there already and not empty, or there is no such part or
                format.
            AdapterError: It cannot be written in that format.
        """
        from hybridqa.internalize.compress import take_shares
        from hybridqa.internalize.export import export_gguf, export_stack

        if file_format not in ("peft", "gguf"):
            raise InputError(f"There is no format `{file_format}`. Use `peft` or `gguf`.")
        if rank is not None and (rank < 1 or file_format != "peft"):
            raise InputError(
                f"A rank of {rank} was given for the format `{file_format}`. It must be at least "
                "1, and is for `peft` only: in the other, modules may have ranks of their own."
            )
        record, folder = self.catalog.adapter(adapter_id), Path(folder)
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise InputError(f"`{folder}` is there already. Name a new or empty folder.")
        parts = len(record.shares)
        if part is not None and not 0 <= part < parts:
            raise InputError(
                f"Adapter `{record.id[:12]}` has {parts} parts, numbered from 0, and none is "
                f"{part}. `hybridqa adapters show` lists them as its shares."
            )
        wanted = range(parts) if part is None else [part]
        stack = [take_shares(self.adapters.load(record), wanted, parts)]
        if record.task_adapter_id is not None:
            if record.task_adapter_id not in self.task_adapters:
                raise AdapterError(
                    f"Adapter `{record.id[:12]}` lies on the task adapter "
                    f"`{record.task_adapter_id[:12]}`, which this config does not load. Use the "
                    "model, reader and hypernetwork that it was made with."
                )
            stack.insert(0, self.task_adapters[record.task_adapter_id])
        base = self.base
        if file_format == "gguf":
            base.lock.run(lambda: export_gguf(folder, stack, base))
        else:
            base.lock.run(lambda: export_stack(folder, stack, base.name, rank))
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
        on_routed: Callable[[Routed], None] = lambda routed: None,
    ) -> Trace:
        """Answer a question, and return all that there is to tell of it; see `Answerer.trace`."""
        arm, style = self._checked(question, arm, document_ids, style)
        trace = self.answerer.trace(question, arm, document_ids, style, on_routed)
        if self.config.log_questions:
            from hybridqa.engines.trace import logged

            self.log.append(logged(trace, trace.routed.policy.name, self.base.fingerprint))
        return trace

    def explain(
        self, question: str, arm: Arm | None = None, document_ids: Sequence[str] = ()
    ) -> Decision:
        """Return the route a question would take, and why."""
        arm, _ = self._checked(question, arm, document_ids, None)
        return self.answerer.explain(question, arm, document_ids)

    def delete(self, document_id: str) -> list[str]:
        """Delete a document and all made of it; returns the ids of its removed adapters."""
        with self.log.forgetting(document_id):
            removed = self.ingestor.delete(document_id)
        self.models.forget(self._realm)
        return removed

    def put_policy(self, text: str, expected: int | None = None) -> StoredPolicy:
        """Put a policy in force, here and whenever this home is opened.

        Args:
            text: YAML, as in `configs/policy`.
            expected: As for `PolicyStore.put`.

        Raises:
            ConfigError: It is not a policy.
            PolicyConflictError: Another version is in force than expected.
        """
        policy = parse_policy(text)
        with self._putting:  # the last that is stored is the last in force
            stored = self.policies.put(text, expected)
            self.policy = policy
        return stored

    # What it is made of

    base: _Shared[BaseModel] = _Shared()
    reader: _Shared[Adapter | None] = _Shared()
    task_adapters: _Shared[Mapping[str, Adapter]] = _Shared()
    generator: _Shared[Generator] = _Shared()
    locator: _Shared[Locator | None] = _Shared()
    embedder: _Shared[Embedder] = _Shared()
    chunker: _Shared[Chunker] = _Shared()
    associative: _Shared[AssociativeInternalizer] = _Shared()
    perceiver: _Shared[Internalizer] = _Shared()
    refinement: _Shared[Internalizer] = _Shared()
    distillation: _Shared[Internalizer] = _Shared()

    def internalizer(self, name: str | None = None) -> Internalizer | None:
        """Return an internalizer by name, by default the configured one; see `Models`."""
        return self.models.internalizer(name)

    @Part
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

    @Part
    def adapters(self) -> AdapterStore:
        return AdapterStore(self.home.adapters_path, self.catalog, self.base.name)

    @Part
    def ingestor(self) -> Ingestor:
        from hybridqa.engines.ingest import Ingestor

        ingestor = Ingestor(
            self.catalog, self.index, self.adapters, self.embedder, self.chunker, _now
        )
        ingestor.recover()
        return ingestor

    @Part
    def retriever(self) -> Retriever:
        from hybridqa.engines.retrieve import Retriever

        return Retriever(self.embedder, self.index, self.catalog)

    @Part
    def answerer(self) -> Answerer:
        from hybridqa.engines.answer import Answerer
        from hybridqa.engines.route import Router

        settings = self.config.answer
        _ = self.ingestor  # Finishes what a crash left half-done.
        return Answerer(
            router=Router(
                catalog=self.catalog,
                retriever=self.retriever,
                policy=lambda: self.policy,
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
            realm=self._realm,
            locator=self.locator,
        )

    @property
    def _realm(self) -> str:
        """Sets this home's prompts apart from others'."""
        return str(self.home.path)

    def _checked(
        self, question: str, arm: Arm | None, document_ids: Sequence[str], style: Style | None
    ) -> tuple[Arm | None, Style | None]:
        """Tell of bad input before any model is loaded; names of arms and styles are understood."""
        from hybridqa.engines.request import check_documents, checked_name, checked_question

        checked_question(question, self.config.answer.max_question_chars)
        check_documents(document_ids, self.catalog)
        return checked_name(Arm, arm), checked_name(Style, style)


def _now() -> datetime:
    return datetime.now(UTC)
