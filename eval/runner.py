"""`hybridqa eval run`: the same questions under every arm, into a folder that can be resumed."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from hybridqa.config import Config
from hybridqa.errors import InputError
from hybridqa.eval import runs
from hybridqa.eval.arms import styled
from hybridqa.eval.asking import Asker
from hybridqa.eval.bench import Bench, Progress, silent
from hybridqa.eval.cases import Dataset, choose
from hybridqa.eval.described import adapter_row, document_rows, manifest_of, question_rows
from hybridqa.eval.machine import peak_memory_bytes
from hybridqa.eval.plan import Plan
from hybridqa.eval.requests import Requests
from hybridqa.eval.rows import AnswerRow, Manifest
from hybridqa.eval.scoring import Judging, check_metrics, score_run
from hybridqa.stores.disk import disk_errors
from hybridqa.wiring import HybridQA

WORK = ".hybridqa-work"
_MUST_AGREE = ("limit", "seed", "data_sha256", "timed", "arms", "policy", "config", "model")
"""What a resumed run must have in common with its beginning."""


def run(
    config: Config,
    plan: Plan,
    out: Path,
    resume: bool = False,
    judging: Judging | None = None,
    progress: Progress = silent,
    open_home: Callable[[Path, Config], HybridQA] = HybridQA,
) -> Manifest:
    """Ask all questions of a plan under all its arms, score the answers, complete the folder.

    Every answer (or batch of them) is on the disk before the next is asked for, so that a run can
    be killed at any time and resumed.

    Args:
        config: Of the model and its limits; its index URL is not used.
        plan: What is asked.
        out: Folder of the run.
        resume: Go on with the run in this folder: nothing is asked or judged twice. Other metrics
            or a judge may be asked for; a complete run is then scored anew, without asking.
        judging: Who judges, and how much; `None` where no metric needs it.
        progress: Told of every step.
        open_home: Opens a home directory; tests put fakes into it.

    Raises:
        InputError: The folder holds something else, or the run of another plan; or the judge
            cannot be reached.
        HomeInUseError: Another process is at work on this run.
    """
    check_metrics(plan.metrics, judging)
    _check_folder(out, resume)
    dataset = choose(plan.dataset, plan.limit, plan.seed)
    config = replace(config, index=replace(config.index, url=None))
    with open_home(out / WORK, config) as qa:
        progress("loading models", 0, 1)
        judge = judging.judge(qa) if judging else None
        if judge:
            judge.check()  # before anything is spent
        bench = Bench(qa, dataset, plan.arms)
        manifest = _begun(out, manifest_of(qa, plan, dataset))
        if not manifest.asked:
            manifest = _ask(qa, bench, plan, dataset, out, manifest, progress)
        manifest = score_run(out, manifest, qa.embedder, judge, judging, plan.seed, progress)
    shutil.rmtree(out / WORK, ignore_errors=True)
    return manifest


def _check_folder(out: Path, resume: bool) -> None:
    """See that nothing is overwritten."""
    if out.exists() and not out.is_dir():
        raise InputError(f"`{out}` is a file. Name a folder for the run.")
    if (out / runs.MANIFEST).exists():
        if not resume:
            raise InputError(
                f"`{out}` holds a run already. Go on with it by `--resume`, or name a new folder."
            )
    elif out.exists() and {path.name for path in out.iterdir()} - {WORK, f"{runs.MANIFEST}.new"}:
        raise InputError(f"`{out}` is not empty, and not a run. Name a new folder.")


def _begun(out: Path, planned: Manifest) -> Manifest:
    """Return the manifest of the run in the folder, begun now or before."""
    if not (out / runs.MANIFEST).exists():
        runs.write_manifest(out, planned)
        return planned
    former = runs.read_manifest(out)
    for name in _MUST_AGREE:
        was, now = getattr(former, name), getattr(planned, name)
        if was != now:
            raise InputError(
                f"The run `{out}` was begun with another `{name}`: {_difference(was, now)}. "
                "Resume it with the same, or name a new folder."
            )
    devices = [manifest.machine["device"] for manifest in (former, planned)]
    if not former.asked and devices[0] != devices[1]:
        raise InputError(
            f"The run `{out}` was begun on {devices[0]}, this is {devices[1]}: their times do not "
            "mix. Resume it there, or name a new folder."
        )
    return replace(former, metrics=planned.metrics, machine=_both(former, planned))


def _both(former: Manifest, planned: Manifest) -> dict[str, Any]:
    """Return the machine, with all commits that a run was made at."""
    commits = str(former.machine["commit"]).split(", ")
    if not former.asked and str(planned.machine["commit"]) not in commits:
        commits.append(str(planned.machine["commit"]))
    return {**former.machine, "commit": ", ".join(commits)}


def _difference(was: Any, now: Any) -> str:
    """Return what differs, of mappings the first key only."""
    if isinstance(was, dict) and isinstance(now, dict):
        key = next(key for key in {**was, **now} if was.get(key) != now.get(key))
        return f"`{key}`: {_difference(was.get(key), now.get(key))}"
    return f"then {was!s:.200}, now {now!s:.200}"


def _ask(
    qa: HybridQA,
    bench: Bench,
    plan: Plan,
    dataset: Dataset,
    out: Path,
    manifest: Manifest,
    progress: Progress,
) -> Manifest:
    """Take the documents in and ask what was not asked yet."""
    seconds = dict(manifest.seconds)
    with _timed(seconds, "prepare"):
        bench.prepare(progress)
        runs.write_rows(out / runs.DOCUMENTS, document_rows(qa, dataset))
        runs.write_rows(out / runs.QUESTIONS, question_rows(qa, bench, dataset))
    manifest = replace(
        manifest,
        adapters=tuple(map(adapter_row, bench.adapters)),
        warnings=bench.warnings,
        seconds=seconds,
    )
    runs.write_manifest(out, manifest)
    answers, arms = out / runs.ANSWERS, styled(plan.arms)
    asker = Asker(
        qa=qa,
        requests=Requests(qa, bench),
        answered=runs.read_appended(AnswerRow, answers),
        keep=partial(runs.append_rows, answers),
        progress=progress,
    )
    try:
        with _timed(seconds, "answer"):
            asker.one_by_one(arms, dataset.cases[: plan.timed])
            for arm in arms:
                asker.in_batches(arm, dataset.cases[plan.timed :], plan.batch_size)
    finally:
        runs.write_manifest(out, replace(manifest, seconds=seconds))
    _copy_log(qa.home.path / "questions.jsonl", out / runs.LOG)
    manifest = replace(
        manifest,
        asked=True,
        seconds=seconds,
        peak_memory_bytes=max(manifest.peak_memory_bytes, peak_memory_bytes()),
    )
    runs.write_manifest(out, manifest)
    return manifest


def _copy_log(log: Path, copy: Path) -> None:
    """Copy what was logged, once for each question: a kill may have had one asked again."""
    if log.exists():
        lines = {json.loads(line)["question"]: line for line in log.read_bytes().splitlines()}
        with disk_errors("copy the question log", copy):
            copy.write_bytes(b"".join(line + b"\n" for line in lines.values()))


@contextmanager
def _timed(seconds: dict[str, float], phase: str) -> Iterator[None]:
    """Add the time that the block takes to a phase."""
    began = time.perf_counter()
    try:
        yield
    finally:
        seconds[phase] = round(seconds.get(phase, 0.0) + time.perf_counter() - began, 3)
