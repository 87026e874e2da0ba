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
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from hybridqa.errors import InputError
from hybridqa.eval.rows import (
    AnswerRow,
    DocumentRow,
    Manifest,
    QuestionRow,
    Run,
    ScoreRow,
)
from hybridqa.stores.disk import disk_errors, replace_durably

T = TypeVar("T")

FORMAT = 1
MANIFEST, DOCUMENTS, QUESTIONS = "manifest.json", "documents.jsonl", "questions.jsonl"
ANSWERS, JUDGEMENTS, SCORES = "answers.jsonl", "judgements.jsonl", "scores.jsonl"
LOG = "log.jsonl"


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
        replace_durably(path, text.encode("utf-8", "replace"))


def _checked(adapter: TypeAdapter[T], text: str, where: str) -> T:
    try:
        return adapter.validate_json(text)
    except ValidationError as exc:
        error = exc.errors(include_url=False, include_context=False)[0]
        at = ".".join(map(str, error["loc"])) or "the line"
        raise InputError(
            f"`{where}`: `{at}`: {error['msg']}. The run is damaged; run the evaluation again."
        ) from exc
