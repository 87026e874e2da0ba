"""Answers from passages that somebody else has chosen: a reranker, a router, the app itself."""

from __future__ import annotations

from collections.abc import Sequence

from hybridqa.engines.cite import cite_passage, find_support
from hybridqa.engines.follow import checked
from hybridqa.engines.meter import Meter
from hybridqa.engines.prompts import Prompts
from hybridqa.engines.request import checked_question
from hybridqa.errors import QuestionError
from hybridqa.types import Answer, Arm, Attempt, Citation, Hit, Style
from hybridqa.wiring import HybridQA


def answer_from(qa: HybridQA, question: str, hits: Sequence[Hit], style: Style | None) -> Answer:
    """Let the home's model read all passages given, and check its answer as always.

    Args:
        qa: Open.
        question: In plain words.
        hits: At least one; not searched for anew, so their text need not be in the home.
        style: `None` takes the policy's.

    Raises:
        QuestionError: The question is empty or too long, there is no passage, or all that does not
            fit the model's context.
    """
    question = checked_question(question, qa.config.answer.max_question_chars)
    if not hits:
        raise QuestionError("There are no passages to answer from. Give at least one node.")
    style = style or qa.policy.style
    prompts = Prompts(qa.adapters, qa.task_adapters, qa.reader, qa.config.answer.max_tokens)
    passages = [hit.chunk.text for hit in hits]
    meter = Meter(qa.generator)
    silent_from = qa.policy.thresholds.silent_in(style)
    quoting = style is not Style.FREE
    made = meter.generate(prompts.read(question, passages, quoting, silent_from=silent_from))
    with meter.watch.stage("verify"):
        if made.span is not None:
            index, start, end = made.span
            citation: Citation | None = cite_passage(hits[index], start, end)
        else:
            citation = find_support(made.text, hits)
    timings_ms = meter.watch.timings_ms()
    attempt = checked(
        Attempt(
            arm=Arm.RETRIEVAL,
            text=" ".join(made.text.split()),
            abstained=made.abstained,
            cited=citation is not None,
            confidence=made.confidence,
            milliseconds=timings_ms["total"],
        ),
        qa.policy,
    )
    return Answer(
        question=question,
        text=attempt.text if attempt.accepted else "",
        arm=Arm.RETRIEVAL,
        style=style,
        reasons=("the caller chose the passages", *attempt.reasons),
        citations=(citation,) if citation and attempt.accepted else (),
        adapter=None,
        confidence=attempt.confidence,
        timings_ms=timings_ms,
        attempts=(attempt,),
        prompt_tokens=meter.prompt_tokens,
        completion_tokens=meter.completion_tokens,
    )
