"""Ask every question under every arm, and keep each answer as it comes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from hybridqa.engines.cite import cite_answer
from hybridqa.engines.stopwatch import Stopwatch
from hybridqa.errors import QuestionError, StaleDocumentError
from hybridqa.eval.arms import ArmName, StyledArm
from hybridqa.eval.bench import Progress, span_of
from hybridqa.eval.cases import Case
from hybridqa.eval.requests import Request, Requests
from hybridqa.eval.rows import AnswerRow, CitationRow
from hybridqa.protocols import Generation, Generator, Prompt
from hybridqa.types import AdapterRecord, Arm, Citation
from hybridqa.wiring import HybridQA

_BATCH_CHARS = 48_000  # of all prompts of a batch, padded: bounds memory where passages are long
_NO_ADAPTER = "there is no adapter to wear"

Keep = Callable[[Sequence[AnswerRow]], None]
"""Puts answers where they outlive this process."""


class Asker:
    """Asks the questions of one run that have no answer yet."""

    def __init__(
        self,
        qa: HybridQA,
        requests: Requests,
        answered: Sequence[AnswerRow],
        keep: Keep,
        progress: Progress,
    ) -> None:
        """Wire the pieces.

        Args:
            qa: Answers under `auto`; its generator answers under the other arms.
            requests: What is asked under them.
            answered: These are not asked again.
            keep: Called with every new answer, or every batch of them.
            progress: Told of every step.
        """
        self._qa, self._requests, self._keep, self._progress = qa, requests, keep, progress
        self._answered = {(row.arm, row.question) for row in answered}

    def one_by_one(self, arms: Sequence[StyledArm], cases: Sequence[Case]) -> None:
        """Ask under all arms in turn before the next question, so that timings are comparable."""
        for n, case in enumerate(cases):
            # Another arm comes first each time: none is always the one that warms the caches.
            first = n % len(arms)
            for arm in [*arms[first:], *arms[:first]]:
                if (str(arm), case.id) not in self._answered:
                    self._keep([self._alone(arm, case)])
            self._progress("one by one", n + 1, len(cases))

    def in_batches(self, arm: StyledArm, cases: Sequence[Case], size: int) -> None:
        """Ask under one arm, questions with prompts of like length together."""
        done = 0
        lengths = [self._requests.length(arm, case) for case in cases]
        for batch in batches(lengths, 1 if arm.arm is ArmName.AUTO else size):
            missing = [cases[n] for n in batch if (str(arm), cases[n].id) not in self._answered]
            if missing and arm.arm is ArmName.AUTO:
                self._keep([self._routed(case) for case in missing])
            elif missing:
                self._keep(self._together(arm, missing))
            done += len(batch)
            self._progress(str(arm), done, len(cases))

    def _alone(self, arm: StyledArm, case: Case) -> AnswerRow:
        if arm.arm is ArmName.AUTO:
            return self._routed(case)
        watch = Stopwatch()
        request = self._requests.request(arm, case, watch)
        if request is None:
            return _failed(arm, case, _NO_ADAPTER)
        before_s = watch.elapsed_s
        try:
            with watch.stage("generate"):
                made = self._qa.generator.generate([request.prompt])[0]
        except QuestionError as exc:
            return _failed(arm, case, str(exc))
        watch.note("first_token", before_s + made.first_token_s)
        with watch.stage("cite"):
            citation = cite_answer(made, request.sources, request.hits)
        return _row(arm, case, request, made, citation, 1, watch.timings_ms())

    def _together(self, arm: StyledArm, cases: Sequence[Case]) -> list[AnswerRow]:
        requests = {case.id: self._requests.request(arm, case, Stopwatch()) for case in cases}
        prompts = {id: request.prompt for id, request in requests.items() if request}
        made = generated(self._qa.generator, list(prompts.values()))
        by_id = dict(zip(prompts, made, strict=True))
        rows = []
        for case in cases:
            request, generation = requests[case.id], by_id.get(case.id, _NO_ADAPTER)
            if request is None or isinstance(generation, str):
                rows.append(_failed(arm, case, str(generation)))
                continue
            citation = cite_answer(generation, request.sources, request.hits)
            rows.append(_row(arm, case, request, generation, citation, len(cases)))
        return rows

    def _routed(self, case: Case) -> AnswerRow:
        """Ask as a user would."""
        arm = StyledArm(ArmName.AUTO, None)
        try:
            given = self._qa.ask(case.question)
        except (QuestionError, StaleDocumentError) as exc:
            return _failed(arm, case, str(exc))
        read = given.arm in (Arm.RETRIEVAL, Arm.BOTH)
        hits = self._requests.read(case, self._qa.policy.style) if read else ()
        return AnswerRow(
            question=case.id,
            arm=str(arm),
            answer=given.text,
            confidence=given.confidence,
            route=str(given.arm),
            reasons=tuple(given.reasons),
            citations=tuple(map(_citation_row, given.citations)),
            contexts=tuple(span_of(hit.chunk) for hit in hits),
            adapter=given.adapter.id if given.adapter else None,
            adapter_bytes=_worn_bytes(given.adapter),
            prompt_tokens=given.prompt_tokens,
            completion_tokens=given.completion_tokens,
            timings_ms=dict(given.timings_ms),
        )


def batches(lengths: Sequence[int], size: int) -> Iterator[list[int]]:
    """Yield positions in `lengths` (in characters), shortest first, at most `size` together."""
    batch: list[int] = []
    for n in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batch and (len(batch) == size or (len(batch) + 1) * lengths[n] > _BATCH_CHARS):
            yield batch
            batch = []
        batch.append(n)
    if batch:
        yield batch


def generated(generator: Generator, prompts: Sequence[Prompt]) -> list[Generation | str]:
    """Return generations, or for prompts that do not fit the model why not."""
    try:
        return list(generator.generate(prompts))
    except QuestionError as exc:
        if len(prompts) == 1:
            return [str(exc)]
        return [made for prompt in prompts for made in generated(generator, [prompt])]


def _row(
    arm: StyledArm,
    case: Case,
    request: Request,
    made: Generation,
    citation: Citation | None,
    batch: int,
    timings_ms: Mapping[str, float] | None = None,
) -> AnswerRow:
    return AnswerRow(
        question=case.id,
        arm=str(arm),
        answer="" if made.abstained else " ".join(made.text.split()),
        confidence=made.confidence,
        relevance=made.relevance,
        asked=made.asked,
        route=str(arm.arm),
        citations=(_citation_row(citation),) if citation else (),
        contexts=tuple(map(span_of, request.contexts)),
        adapter=request.record.id if request.record else None,
        adapter_bytes=_worn_bytes(request.record),
        prompt_tokens=made.prompt_tokens,
        completion_tokens=len(made.token_ids),
        timings_ms=dict(timings_ms or {}),
        batch=batch,
    )


def _failed(arm: StyledArm, case: Case, error: str) -> AnswerRow:
    return AnswerRow(question=case.id, arm=str(arm), answer="", error=error, route=str(arm.arm))


def _citation_row(citation: Citation) -> CitationRow:
    return CitationRow(
        document=citation.document_id,
        start=citation.start,
        end=citation.end,
        quote=citation.quote,
        score=citation.score,
        verified=citation.verified,
    )


def _worn_bytes(record: AdapterRecord | None) -> int:
    """Return the bytes of the share that an answer wears."""
    return record.size_bytes // len(record.shares) if record else 0
