"""RAGAS's metrics with a judge, one item at a time: a score, or an exception that says why not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from hybridqa.eval.metrics.catalog import METRICS
from hybridqa.eval.metrics.ragas_metrics import Embeddings, collections, within_bounds

_REASON_CHARS = 300

_BUILD: Mapping[str, Callable[[Any, Any, Embeddings], Any]] = {
    "faithfulness": lambda ragas, llm, _: ragas.Faithfulness(llm=llm),
    # By itself it would ask five times, and take one prompt's rating where the other's failed.
    "response_groundedness": lambda ragas, llm, _: ragas.ResponseGroundedness(
        llm=llm, max_retries=1
    ),
    "answer_relevancy": lambda ragas, llm, emb: ragas.AnswerRelevancy(llm=llm, embeddings=emb),
    "answer_correctness": lambda ragas, llm, emb: ragas.AnswerCorrectness(llm=llm, embeddings=emb),
    "factual_correctness": lambda ragas, llm, _: ragas.FactualCorrectness(llm=llm),
    "llm_context_precision": lambda ragas, llm, _: ragas.ContextPrecision(llm=llm),
    "llm_context_recall": lambda ragas, llm, _: ragas.ContextRecall(llm=llm),
}
_ARGUMENT: Mapping[str, str] = {
    "question": "user_input",
    "answer": "response",
    "gold": "reference",
    "evidence": "retrieved_contexts",
    "retrieved": "retrieved_contexts",
}


class JudgeError(Exception):
    """What the judge said cannot be used."""


async def judge_one(
    metric: str, texts: Mapping[str, Any], llm: Any, embeddings: Embeddings
) -> float:
    """Return a score in [0, 1].

    Args:
        metric: Its name.
        texts: By the names of `Metric.reads`; none is empty.
        llm: Has `agenerate(prompt, response_model)`.
        embeddings: For the metrics that compare texts.

    Raises:
        Exception: Whatever went wrong, in any of the calls that the metric makes.
    """
    line = _line()(llm)
    arguments = {_ARGUMENT[key]: texts[key] for key in METRICS[metric].reads}
    result = await _BUILD[metric](collections(), line, embeddings).ascore(**arguments)
    if line.failure is not None:  # RAGAS swallows some
        raise line.failure
    return within_bounds(result.value)


def reason(exc: Exception) -> str:
    """Return in one line why an item has no score."""
    attempts = getattr(exc, "failed_attempts", None)  # instructor's, when it gives up
    cause = attempts[-1].exception if attempts else exc
    text = " ".join(f"{type(cause).__name__}: {cause}".split())
    return text if len(text) <= _REASON_CHARS else text[: _REASON_CHARS - 1] + "…"


class _Line:
    """One item's line to the judge: remembers what failed on it."""

    def __init__(self, llm: Any) -> None:
        self._llm = llm
        self.failure: Exception | None = None

    async def agenerate(self, prompt: str, response_model: Any) -> Any:
        try:
            result = await self._llm.agenerate(prompt, response_model)
            if _says_nothing(result):
                # RAGAS would count no statements as all wrong, or all right.
                raise JudgeError(f"the judge returned an empty {response_model.__name__}")
        except Exception as exc:
            self.failure = exc
            raise
        return result


@cache
def _line() -> type[_Line]:
    from ragas.llms.base import InstructorBaseRagasLLM

    InstructorBaseRagasLLM.register(_Line)
    return _Line


def _says_nothing(result: Any) -> bool:
    said = [value for name, value in result if isinstance(value, list) or name == "question"]
    return bool(said) and not any(said)
