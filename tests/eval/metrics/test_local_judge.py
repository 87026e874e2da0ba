import json
import sys
from typing import Any

import pytest
import torch

from hybridqa.errors import InputError, QuestionError
from hybridqa.eval.metrics.judging import judge_answers
from hybridqa.eval.metrics.local_judge import Constrained, LocalJudge, bounded
from hybridqa.eval.rows import JudgementRow
from hybridqa.models.base import BaseModel
from hybridqa.testing import FakeEmbedder, tiny_model

NESTED = bounded(
    {
        "$defs": {
            "Verdict": {
                "type": "object",
                "properties": {
                    "statement": {"type": "string"},
                    "rating": {"type": "integer"},
                    "verdict": {"type": "integer"},
                },
                "required": ["statement", "rating", "verdict"],
            }
        },
        "type": "object",
        "properties": {"verdicts": {"type": "array", "items": {"$ref": "#/$defs/Verdict"}}},
        "required": ["verdicts"],
    }
)


@pytest.fixture(scope="module")
def model() -> BaseModel:
    """Return a random model that reads bytes, with room for RAGAS's long prompts."""
    base = tiny_model(layers=1)
    base.model.config.max_position_embeddings = 32_768
    return base


def judged(
    base: BaseModel, asked: Any, metrics: tuple[str, ...], repeats: int = 1, **options: Any
) -> Any:
    rows: list[JudgementRow] = []
    judge_answers(
        judge=LocalJudge(base, **options),
        metrics=metrics,
        questions=asked.questions,
        answers=asked.answers[:1],
        documents=asked.documents,
        embedder=FakeEmbedder(),
        done=(),
        append=rows.extend,
        seed=1,
        limit=None,
        repeats=repeats,
        progress=lambda *_: None,
    )
    return rows


@pytest.mark.parametrize("max_tokens", [1, 40, 400])
@pytest.mark.parametrize("seed", range(8))
def test_a_random_model_always_ends_with_json_that_fits(
    model: BaseModel, max_tokens: int, seed: int
) -> None:
    rng = torch.Generator().manual_seed(seed)

    text = Constrained(model, max_tokens).generate("Judge!", NESTED, rng)

    verdicts = json.loads(text)["verdicts"]
    assert 1 <= len(verdicts) <= 8
    for verdict in verdicts:
        assert 1 <= len(verdict["statement"]) <= 300
        assert verdict["rating"] in (0, 1, 2)
        assert verdict["verdict"] in (0, 1)
    assert len(model.plain_ids(text)) <= max_tokens + 128


def test_greedy_words_are_the_same_and_drawn_ones_follow_their_seed(model: BaseModel) -> None:
    def say(seed: int | None) -> str:
        rng = None if seed is None else torch.Generator().manual_seed(seed)
        return Constrained(model, 40).generate("Judge!", NESTED, rng)

    assert say(None) == say(None)
    assert say(1) == say(1) != say(2)


def test_ragas_judges_with_a_local_model(model: BaseModel, asked: Any) -> None:
    metrics = ("faithfulness", "response_groundedness", "answer_relevancy", "answer_correctness")
    metrics += ("factual_correctness", "llm_context_precision", "llm_context_recall")

    rows = judged(model, asked, metrics, max_tokens=60)

    assert [row.error for row in rows] == [None] * 14  # each once, and once again
    assert all(0 <= row.value <= 1 for row in rows)
    assert {row.metric for row in rows if row.repeat == 1} == {*metrics}


def test_small_models_are_plumbing(model: BaseModel) -> None:
    judge = LocalJudge(model)

    assert (judge.plumbing, judge.name, judge.endpoint) == (True, "tiny-random-llama", "local")


def test_a_prompt_that_does_not_fit_is_told(asked: Any) -> None:
    small = tiny_model(layers=1)
    small.model.config.max_position_embeddings = 600

    with pytest.raises(QuestionError, match="exceeds the model's context of 600"):
        Constrained(small, 40).generate("Judge! " * 100, NESTED, None)
    (row, *_) = judged(small, asked, ("faithfulness",))
    assert row.value is None
    assert "exceeds the model's context of 600" in row.error


def test_without_llguidance_it_says_what_to_install(
    model: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "llguidance", None)

    with pytest.raises(InputError, match=r"needs llguidance.*pip install 'hybridqa\[eval\]'"):
        LocalJudge(model).check()


@pytest.mark.real
def test_the_default_model_rates_and_is_plumbing(asked: Any) -> None:
    base = BaseModel.from_checkpoint("embedded")

    rows = judged(base, asked, ("response_groundedness",), repeats=0)

    assert LocalJudge(base).plumbing
    assert [row.error for row in rows] == [None]
    assert rows[0].value in (0, 0.25, 0.5, 0.75, 1)  # two ratings of 0 to 2
