"""Answers from passages that somebody else has chosen: a reranker, a router, the app itself."""

from __future__ import annotations

from collections.abc import Sequence

from hybridqa.engines.cite import cite_answer, told_of_wording
from hybridqa.engines.follow import attempted, checked
from hybridqa.engines.meter import Meter
from hybridqa.engines.prompts import Prompts
from hybridqa.engines.request import checked_question
from hybridqa.errors import QuestionError
from hybridqa.types import Answer, Arm, Hit, Style
from hybridqa.wiring import HybridQA


def answer_from(qa: HybridQA, question: str, hits: Sequence[Hit], style: Style | None) -> Answer:
    """Let the home's model read all passages given, and check its answer as always.

    It is not asked for its own words where it is likelier than the policy's `silent_from` that none
    of them answers.

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
    least = qa.policy.thresholds.least_relevance(Arm.RETRIEVAL)
    made = meter.generate(prompts.read(question, passages, style, min_relevance=least))
    with meter.watch.stage("verify"):
        citation = cite_answer(made, [hit.chunk for hit in hits], hits)
    timings_ms = meter.watch.timings_ms()
    attempt = checked(attempted(Arm.RETRIEVAL, made, citation, timings_ms["total"]), qa.policy)
    told = told_of_wording(made, style) if attempt.accepted else ()
    return Answer(
        question=question,
        text=attempt.text if attempt.accepted else "",
        arm=Arm.RETRIEVAL,
        style=style,
        reasons=("the caller chose the passages", *attempt.reasons, *told),
        citations=(citation,) if citation and attempt.accepted else (),
        adapter=None,
        confidence=attempt.confidence,
        timings_ms=timings_ms,
        attempts=(attempt,),
        prompt_tokens=meter.prompt_tokens,
        completion_tokens=meter.completion_tokens,
    )
