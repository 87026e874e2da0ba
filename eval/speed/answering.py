"""How soon the first token comes: from an adapter, and from passages in the prompt."""

from __future__ import annotations

import statistics
from functools import partial

from hybridqa.eval.speed.pairs import side_by_side, spread, told
from hybridqa.eval.speed.report import Detail, SpeedRow
from hybridqa.eval.speed.workbench import Workbench
from hybridqa.models.generator import TorchGenerator
from hybridqa.protocols import Prompt
from hybridqa.types import Arm

_PASSAGES = 5
_OUTPUT_TOKENS = 16


def first_token(bench: Workbench) -> SpeedRow:
    """Ask one question of an adapter and of passages; all answers are equally long."""
    generator = TorchGenerator(bench.qa.base, stop_tokens=())
    configured = bench.qa.config.answer.passages
    prompts = {
        "adapter": Prompt(
            question=bench.questions[0], adapters=bench.worn, max_tokens=_OUTPUT_TOKENS
        ),
        "retrieval": _reading(bench, _PASSAGES),
        "configured": _reading(bench, configured),
    }

    def first(name: str) -> float:
        return generator.generate([prompts[name]])[0].first_token_s

    bench.progress("answering", 0, 1)
    repeats = bench.repeats(9)
    timings = told({name: partial(first, name) for name in prompts}, repeats)
    whole = side_by_side(
        {name: partial(generator.generate, [prompt]) for name, prompt in prompts.items()}, repeats
    )
    return SpeedRow(
        name="adapter-first-token",
        description=f"an adapter's first token comes sooner than with {_PASSAGES} passages in the "
        "prompt",
        **spread(timings.ratios("retrieval", "adapter")),
        unit="x",
        target=3.0,
        at_least=True,
        details={
            "adapter_first_token_ms": timings.median_ms("adapter"),
            "retrieval_first_token_ms": timings.median_ms("retrieval"),
            "adapter_prompt_tokens": len(generator.prompt_ids(prompts["adapter"])),
            "retrieval_prompt_tokens": len(generator.prompt_ids(prompts["retrieval"])),
            "output_tokens": _OUTPUT_TOKENS,
            "ratio_of_the_whole_answer": round(whole.ratio("retrieval", "adapter"), 3),
            "configured_passages": configured,
            "ratio_with_configured_passages": round(timings.ratio("configured", "adapter"), 3),
            **_end_to_end(bench),
        },
    )


def _reading(bench: Workbench, passages: int) -> Prompt:
    reader = bench.qa.reader
    return Prompt(
        question=bench.questions[0],
        passages=bench.passages(passages),
        adapters=(reader,) if reader else (),
        max_tokens=_OUTPUT_TOKENS,
    )


def _end_to_end(bench: Workbench) -> dict[str, Detail]:
    """Return the same through `ask`, as configured: searching, quoting and checking included."""
    qa, documents = bench.qa, bench.sample_documents()
    for n, document in enumerate(documents):
        bench.progress("taking in documents", n, len(documents))
        qa.ingest(document, "associative")
    questions = bench.questions[: 3 if bench.quick else 12]
    firsts: list[float] = []
    totals: list[float] = []
    searches: list[float] = []
    for n, question in enumerate([questions[0], *questions]):  # once to warm up
        bench.progress("answering end to end", n, len(questions))
        wearing = qa.ask(question, Arm.ADAPTER).timings_ms
        reading = qa.ask(question, Arm.RETRIEVAL).timings_ms
        if n and "first_token" in wearing and "first_token" in reading:
            firsts.append(reading["first_token"] / wearing["first_token"])
            totals.append(reading["total"] / wearing["total"])
            searches.append(wearing["retrieve"])
    if not firsts:
        return {"end_to_end_questions": 0}
    return {
        "end_to_end_questions": len(firsts),
        "end_to_end_first_token_ratio": round(statistics.median(firsts), 3),
        "end_to_end_total_ratio": round(statistics.median(totals), 3),
        "end_to_end_search_ms": round(statistics.median(searches), 3),
    }
