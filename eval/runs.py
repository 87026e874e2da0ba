"""A run's folder: plain files that can be read, compared and resumed after a kill.

```
manifest.json     what was run: data, arms, policy, models, versions, machine, costs
documents.jsonl   the texts
questions.jsonl   what was asked, with gold answers, gold spans and the evidence to judge by
answers.jsonl     one line per question and arm, appended as they are made
judgements.jsonl  what the judge said of them, appended likewise; only with a judge
scores.jsonl      one line per question and arm, made of the others once they are complete
log.jsonl         the question log of the arm `auto`, for `eval replay`
.hybridqa-work/   adapters and index while the run is not complete
```
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, field
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from hybridqa.errors import InputError
from hybridqa.stores.disk import disk_errors, write_durably

T = TypeVar("T")

FORMAT = 1
MANIFEST, DOCUMENTS, QUESTIONS = "manifest.json", "documents.jsonl", "questions.jsonl"
ANSWERS, JUDGEMENTS, SCORES = "answers.jsonl", "judgements.jsonl", "scores.jsonl"
LOG = "log.jsonl"
_VALUES = ConfigDict(extra="ignore", allow_inf_nan=False)
Share = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True, kw_only=True, config=_VALUES)
class DocumentRow:
    """A text that was searched."""

    id: str
    title: str
    source: str
    text: str
    content_hash: str
    volatility: float | None = None
    """As ingest judged it, in [0, 1]."""
    citation_need: float | None = None
    tokens: int | None = None
    """Of the base model's tokenizer."""


@dataclass(frozen=True, kw_only=True, config=_VALUES)
class SpanRow:
    """Characters `start` to `end` of a document's text."""

    document: str
    start: int
    end: int


@dataclass(frozen=True, kw_only=True, config=_VALUES)
class QuestionRow:
    """A question as asked of every arm."""

    id: str
    question: str
    answers: tuple[str, ...]
    """Gold; empty where no document says."""
    documents: tuple[str, ...]
    about: tuple[str, ...] = ()
    """See `cases.Case`, as for the next two."""
    spans: tuple[SpanRow, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    evidence: tuple[SpanRow, ...] = ()
    """What a judge holds every arm's answer against: the gold passages and the retrieved ones."""
    retrieved: tuple[SpanRow, ...] = ()
    """What the index finds for it in all documents, best first."""


@dataclass(frozen=True, kw_only=True, config=_VALUES)
class CitationRow:
    """As `types.Citation`."""

    document: str
    start: int
    end: int
    quote: str
    score: float
    verified: str


@dataclass(frozen=True, kw_only=True, config=_VALUES)
class AnswerRow:
    """What one arm made of one question."""

    question: str
    """Its id."""
    arm: str
    """Styled: `adapter`, `adapter+quote`, ..., `auto`."""
    answer: str
    """Empty when it abstained or failed."""
    error: str | None = None
    """Why it could not be asked at all; an answer all the same, a wrong one."""
    confidence: Share = 0.0
    route: str
    """The arm that answered; differs from `arm` only under `auto`."""
    reasons: tuple[str, ...] = ()
    """Why `auto` took it."""
    citations: tuple[CitationRow, ...] = ()
    contexts: tuple[SpanRow, ...] = ()
    """Passages that stood in the prompt."""
    adapter: str | None = None
    """Id of the document adapter that was worn."""
    adapter_bytes: int = 0
    """Of the part of it that was worn."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    timings_ms: Mapping[str, float] = field(default_factory=dict)
    """By stage, `total` among them; empty where it was not timed, as in batches."""
    batch: int = 1
    """Questions generated at once."""

    @property
    def abstained(self) -> bool:
        return not self.answer and self.error is None


@dataclass(frozen=True, kw_only=True, config=_VALUES)
class ScoreRow:
    """One answer, scored."""

    question: str
    arm: str
    scores: Mapping[str, float | None]
    """By metric; `None` where a metric does not apply (no gold answer, no evidence) or where the
    judge failed, which `failures` tells apart."""
    failures: Mapping[str, str] = field(default_factory=dict)
    """Why a judge gave no score, by metric."""


@dataclass(frozen=True, kw_only=True, config=_VALUES)
class JudgementRow:
    """What a judge said of one answer by one metric."""

    question: str
    arm: str
    metric: str
    value: float | None
    """`None` where it failed."""
    error: str | None = None
    repeat: int = 0
    """From 1 on: judged again, to see whether the judge agrees with itself."""
    seconds: float = 0.0
    judge: str = ""
    """Name and endpoint: verdicts of two judges never mix."""


@dataclass(frozen=True, kw_only=True, config=_VALUES)
class AdapterRow:
    """An adapter that the run made."""

    document: str
    id: str
    internalizer: str
    rank: int
    energy: float
    size_bytes: int
    seconds: float


@dataclass(frozen=True, kw_only=True, config=_VALUES)
class Manifest:
    """What was run, and with what."""

    format: int
    created_at: str
    """ISO 8601, with time zone."""
    complete: bool
    """Scored, and nothing left to do."""
    asked: bool = False
    """All answers are there."""
    command: str
    data: str
    data_sha256: str
    questions: int
    documents: int
    limit: int | None
    seed: int
    arms: tuple[str, ...]
    """Styled, in the order asked."""
    metrics: tuple[str, ...]
    """Names; see `metrics`."""
    evidence: str
    """What `QuestionRow.evidence` holds, in words."""
    timed: int
    """Questions asked one by one, arm after arm, whose timings count."""
    policy: Mapping[str, Any]
    """The whole policy, as in its file."""
    config: Mapping[str, Any]
    model: Mapping[str, str]
    """By name and fingerprint: the base model, its reader, the embedder, the internalizers."""
    kv_bytes_per_token: int = 0
    """Of the base model's cache."""
    judge: Mapping[str, Any] | None = None
    """`name`, `endpoint`, `plumbing` (too small to judge) and `consistency` by metric."""
    adapters: tuple[AdapterRow, ...] = ()
    warnings: Mapping[str, str] = field(default_factory=dict)
    """By document id, why it has no adapter."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """By phase: `prepare`, `answer`, `score`, `judge`; of all times that it was resumed."""
    peak_memory_bytes: int = 0
    """Of the process, without a GPU's."""
    versions: Mapping[str, str | None] = field(default_factory=dict)
    machine: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, config=_VALUES)
class Run:
    """All of a run that is shown, compared and gated."""

    path: str
    manifest: Manifest
    documents: tuple[DocumentRow, ...]
    questions: tuple[QuestionRow, ...]
    answers: tuple[AnswerRow, ...]
    scores: tuple[ScoreRow, ...]

    def table(self, metric: str) -> dict[str, list[float | None]]:
        """Return a metric by arm, in the order of `questions`; `None` where there is no score."""
        known = {(row.arm, row.question): row.scores.get(metric) for row in self.scores}
        return {
            arm: [known.get((arm, question.id)) for question in self.questions]
            for arm in self.manifest.arms
        }


def read_run(folder: str | Path) -> Run:
    """Read a run's folder.

    Raises:
        InputError: There is no run in it, it is not complete, damaged, or of a newer version.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    if not manifest.complete:
        raise InputError(
            f"The run `{folder}` is not complete. Go on with it: the same `hybridqa eval run` with "
            "`--resume`."
        )
    run = Run(
        path=str(folder),
        manifest=manifest,
        documents=tuple(read_rows(DocumentRow, folder / DOCUMENTS)),
        questions=tuple(read_rows(QuestionRow, folder / QUESTIONS)),
        answers=tuple(read_rows(AnswerRow, folder / ANSWERS)),
        scores=tuple(read_rows(ScoreRow, folder / SCORES)),
    )
    expected = len(run.questions) * len(manifest.arms)
    if not len(run.answers) == len(run.scores) == expected or len(run.questions) == 0:
        raise InputError(
            f"The run `{folder}` is damaged: {len(run.questions)} questions and "
            f"{len(manifest.arms)} arms, but {len(run.answers)} answers and {len(run.scores)} "
            "scores. Fetch it again, or run it again."
        )
    return run


def read_manifest(folder: Path) -> Manifest:
    """Read what a run's folder says of itself.

    Raises:
        InputError: There is no run in it, or it is damaged or of a newer version.
    """
    path = folder / MANIFEST
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except OSError as exc:
        raise InputError(
            f"There is no run in `{folder}`: {exc.strerror or exc}. Make one with `hybridqa eval "
            f"run --out {folder}`."
        ) from exc
    except ValueError as exc:
        raise InputError(f"`{path}` is not JSON: {exc}. Run the evaluation again.") from exc
    found = raw.get("format") if isinstance(raw, dict) else None
    if isinstance(found, int) and found > FORMAT:
        raise InputError(
            f"The run `{folder}` has format {found}, this hybridqa reads up to {FORMAT}. Update "
            "hybridqa."
        )
    return _checked(TypeAdapter(Manifest), json.dumps(raw), str(path))


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write a manifest whole or not at all."""
    path = folder / MANIFEST
    _replace(path, json.dumps(asdict(manifest), ensure_ascii=False, indent=1) + "\n")


def read_rows(kind: type[T], path: Path) -> Iterator[T]:
    """Yield the rows of a JSONL file.

    Raises:
        InputError: The file is missing, or a line is not such a row; names the line.
    """
    adapter = TypeAdapter(kind)
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                yield _checked(adapter, line, f"{path}, line {number}")
    except (OSError, UnicodeDecodeError) as exc:
        raise InputError(
            f"`{path}` cannot be read: {exc}. The run is damaged; run the evaluation again."
        ) from exc


def write_rows(path: Path, rows: Iterable[Any]) -> None:
    """Write a JSONL file whole or not at all."""
    _replace(path, "".join(map(_line, rows)))


def append_rows(path: Path, rows: Sequence[Any]) -> None:
    """Append rows in one write, on the disk when this returns."""
    with disk_errors("write answers", path), path.open("ab") as file:
        file.write("".join(map(_line, rows)).encode("utf-8", "replace"))
        file.flush()
        os.fsync(file.fileno())


def read_appended(kind: type[T], path: Path) -> list[T]:
    """Return the rows of a file that was being appended to; a torn last line is cut off.

    Raises:
        InputError: Another line than the last is not such a row.
    """
    if not path.exists():
        return []
    with disk_errors("read answers", path):
        data = path.read_bytes()
        whole = data[: data.rfind(b"\n") + 1]
        if len(whole) < len(data):
            os.truncate(path, len(whole))
    return list(read_rows(kind, path))


def _line(row: Any) -> str:
    return json.dumps(asdict(row), ensure_ascii=False, allow_nan=False) + "\n"


def _replace(path: Path, text: str) -> None:
    with disk_errors("write the run", path):
        new = path.with_name(path.name + ".new")
        write_durably(new, text.encode("utf-8", "replace"))
        os.replace(new, path)


def _checked(adapter: TypeAdapter[T], text: str, where: str) -> T:
    try:
        return adapter.validate_json(text)
    except ValidationError as exc:
        error = exc.errors(include_url=False, include_context=False)[0]
        at = ".".join(map(str, error["loc"])) or "the line"
        raise InputError(
            f"`{where}`: `{at}`: {error['msg']}. The run is damaged; run the evaluation again."
        ) from exc
