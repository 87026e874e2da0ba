"""Questions asked at the same time are answered in one batch.

One thread drives the model. Between any two tokens it lets new requests in and finished ones go,
so nobody waits for a stranger's long answer; each request wears its own adapters.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial

from hybridqa.models.decoding import Batch, Row
from hybridqa.models.generator import TorchGenerator
from hybridqa.models.prefixes import Prefix
from hybridqa.models.windows import alike
from hybridqa.protocols import Generation, Judgement, Prompt


class BatchingGenerator:
    """A `Generator` for many threads. Close it."""

    def __init__(self, generator: TorchGenerator, max_rows: int = 16) -> None:
        """Start the thread.

        Args:
            generator: Runs the model.
            max_rows: Requests in a batch.
        """
        self._generator, self._max_rows = generator, max_rows
        self._compute = generator.turns.run
        self._waiting: deque[tuple[Row, Future[Generation]]] = deque()
        self._scoring: deque[_Scoring] = deque()
        self._futures: dict[Row, Future[Generation]] = {}
        self._batch: Batch | None = None
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="generator", daemon=True)
        self._thread.start()

    @property
    def model_fingerprint(self) -> str:
        return self._generator.model_fingerprint

    def generate(self, prompts: Sequence[Prompt]) -> list[Generation]:
        """Return one generation per prompt, in order; see `protocols.Generator`."""
        rows = self._generator.rows(prompts)  # here, in the caller's thread, bad prompts are told
        futures: list[Future[Generation]] = [Future() for _ in rows]
        with self._changed:
            if self._closed:
                raise RuntimeError("The generator is closed.")
            self._waiting.extend(zip(rows, futures, strict=True))
            self._changed.notify()
        return [future.result() for future in futures]

    def score(self, prompts: Sequence[Prompt], answers: Sequence[str]) -> list[float]:
        """Return the likelihood of each answer after its prompt; see `protocols.Generator`."""
        rows = self._generator.rows(prompts, pools=False)
        scores = [_Scoring(row, answer) for row, answer in zip(rows, answers, strict=True)]
        with self._changed:
            if self._closed:
                raise RuntimeError("The generator is closed.")
            self._scoring.extend(scores)
            self._changed.notify()
        return [scoring.future.result() for scoring in scores]

    def judge(self, prompts: Sequence[Prompt], answers: Sequence[Sequence[str]]) -> list[Judgement]:
        """Return how likely each of a prompt's answers is, between two steps of the batch.

        They fill a batch by themselves: on two cores, judging together for all who wait gained
        nothing, and kept the first of them waiting.
        """
        return self._generator.judge(prompts, answers)

    def stream(self, prompt: Prompt) -> Iterator[str]:
        """Yield the answer's text as it grows, in no batch."""
        return self._generator.stream(prompt)

    def forget(self, realm: str) -> None:
        self._generator.forget(realm)

    def close(self) -> None:
        """Answer what is asked, then stop."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while self._wait():
            try:
                self._score()
                self._admit()
                if self._batch is not None:
                    self._compute(partial(self._step, self._batch))
                    if not self._batch.rows:
                        self._batch = None
            except BaseException as exc:  # whatever it is, whoever waits must be told
                self._fail(exc)

    def _wait(self) -> bool:
        """Return once there is something to do; `False` when there never will be."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._waiting or self._scoring or self._batch or self._closed
            )
            return bool(self._waiting or self._scoring or self._batch)

    def _score(self) -> None:
        """Judge all answers that wait for it: they are nearly done."""
        with self._changed:
            waiting = list(self._scoring)
            self._scoring.clear()
        while waiting:
            judged = waiting
            try:
                rows = [each.row for each in waiting]
                known = self._compute(partial(self._generator.known, rows))
                group = alike([row.prompt for row in rows], known)
                judged = [waiting[n] for n in group]
                asked = [each.row for each in judged], [each.answer for each in judged]
                found = [known[n] for n in group]
                scores = self._compute(partial(self._generator.judged, *asked, found))
            except Exception as exc:
                for each in judged:
                    each.future.set_exception(exc)
            else:
                for each, score in zip(judged, scores, strict=True):
                    each.future.set_result(score)
            waiting = [each for each in waiting if each not in judged]

    def _admit(self) -> None:
        """Read the prompts of those who wait, and let them join."""
        read: list[Batch] = []
        waiting = self._admitted()
        while waiting:
            known = self._compute(partial(self._generator.known, waiting))
            group = alike([row.prompt for row in waiting], known)
            rows = [waiting[n] for n in group]
            new = self._compute(partial(self._read, rows, [known[n] for n in group]))
            if new.rows:
                read.append(new)
            waiting = [row for row in waiting if row not in rows]
        if self._batch is None and read:
            self._batch = read.pop(0)
        if self._batch is not None and read:
            self._compute(partial(self._batch.join, read))

    def _read(self, rows: Sequence[Row], known: Sequence[Prefix | None]) -> Batch:
        """Read prompts and choose the first tokens after them."""
        new = self._generator.batch(rows, known)
        new.step()
        self._generator.keep(new)
        self._deliver(new)
        return new

    def _step(self, batch: Batch) -> None:
        batch.step()
        self._deliver(batch)

    def _admitted(self) -> list[Row]:
        """Take those who have waited longest, as many as there is room for.

        But first let the batch shrink to their number: prompts that are read together, and answers
        that are written together, cost little more than one.
        """
        room = self._max_rows
        if self._batch is not None:
            active = sum(row.leader is None for row in self._batch.rows)
            together = self._batch.joinable and len(self._waiting) >= active
            room = room - active if together else 0
        rows: list[Row] = []
        with self._changed:
            while self._waiting and len(rows) < room:
                row, future = self._waiting.popleft()
                self._futures[row] = future
                rows.append(row)
        return rows

    def _deliver(self, batch: Batch) -> None:
        """Return the answers that are done."""
        for row in batch.drop_done() if batch.joinable or batch.done else ():
            self._futures.pop(row).set_result(self._generator.finish(row))

    def _fail(self, error: BaseException) -> None:
        """Tell all who are being answered; those who wait may be luckier."""
        for future in self._futures.values():
            future.set_exception(error)
        self._futures.clear()
        self._batch = None


@dataclass(frozen=True, eq=False)
class _Scoring:
    """An answer to be judged."""

    row: Row
    answer: str
    future: Future[float] = field(default_factory=Future)
