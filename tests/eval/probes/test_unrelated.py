"""What a worn document changes elsewhere: pairs, their figures, and what could not be asked."""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch

from hybridqa.config import AnswerConfig, Config
from hybridqa.errors import DocumentTooLongError, InputError
from hybridqa.eval.cases import Dataset
from hybridqa.eval.datasets import load
from hybridqa.eval.filler import SAMPLE
from hybridqa.eval.probes.likelihoods import divergence, surprise
from hybridqa.eval.probes.unrelated import UnrelatedPlan, chat_questions, run_unrelated
from hybridqa.eval.probes.unrelated_report import Kind, UnrelatedReport, grids
from hybridqa.internalize.locating import LocatingGenerator
from hybridqa.models.generator import TorchGenerator
from hybridqa.protocols import Prompt
from hybridqa.testing import FakeGenerator, tiny_locator, tiny_model
from hybridqa.types import Document

SHORT = Config(answer=AnswerConfig(max_tokens=4))
PLAN = UnrelatedPlan(documents=3, questions=3, texts=2)


def to_the_point(question: str, texts: Sequence[str]) -> str:
    """Answer the town only if the river asked about stands in the texts."""
    for text in texts:
        if text and text.rstrip(".").split()[-1] in question:
            return text.split()[0]
    return "I do not know."


@pytest.fixture
def careful(homes: Any) -> Any:
    homes.generator = FakeGenerator(to_the_point, model_fingerprint=homes.base.fingerprint)
    return homes


def damaging(homes: Any) -> None:
    """Let adapters change what the model computes."""
    make = homes.associative.internalize

    def strongly(document: Document, chunks: Any) -> Any:
        made = make(document, chunks)
        (layer,) = made.adapter.layers.values()
        layer.up.fill_(0.01)
        return made

    homes.associative.internalize = strongly


def figures(report: UnrelatedReport, arm: str) -> dict[str, Any]:
    return {str(each.kind): each for each in report.answer_figures() if each.arm == arm}


def test_an_adapter_that_minds_its_own_business(careful: Any, rivers: Dataset) -> None:
    report = run_unrelated(careful.config, rivers, PLAN, open_home=careful)

    assert len(report.documents) == 3
    for arm in ("adapter", "context"):
        found = figures(report, arm)
        assert [found[kind].asked for kind in ("own", "documents", "general")] == [3, 9, 9]
        assert found["own"].unchanged.mean == 0
        assert found["documents"].unchanged.mean == found["general"].unchanged.mean == 1
        assert (found["own"].f1_before.mean, found["own"].f1_after.mean) == (0, 1)
        assert found["general"].f1_after is None
    assert figures(report, "adapter")["documents"].divergence.mean < 1e-6
    assert figures(report, "context")["documents"].divergence.mean > 1e-3
    for text in report.text_figures():
        assert text.ratio.mean == pytest.approx(1, abs=1e-6)
    told = json.loads(json.dumps(report.as_dict()))
    assert told["answers"][1]["unchanged"] == {"mean": 1, "low": 1, "high": 1}
    assert told["perplexity"][0]["ratio"]["mean"] == pytest.approx(1, abs=1e-6)


def test_damage_is_seen_in_what_nobody_answers_otherwise(careful: Any, rivers: Dataset) -> None:
    damaging(careful)
    report = run_unrelated(careful.config, rivers, PLAN, open_home=careful)

    assert figures(report, "adapter")["documents"].unchanged.mean == 1
    assert figures(report, "adapter")["documents"].divergence.mean > 1e-3
    assert figures(report, "adapter")["general"].divergence.mean > 1e-3
    texts = {text.kind: text for text in report.text_figures()}
    assert texts.keys() == {Kind.OWN, Kind.DOCUMENTS}
    for text in texts.values():
        assert abs(text.ratio.mean - 1) > 1e-3
        assert text.ratio.mean == pytest.approx(text.after / text.before)
        assert text.ratio.low < text.ratio.high


@pytest.mark.parametrize("logit", [-1000.0, 1000.0])
def test_an_adapter_is_worn_only_where_its_document_bears_on_a_question(
    careful: Any, rivers: Dataset, monkeypatch: pytest.MonkeyPatch, logit: float
) -> None:
    damaging(careful)
    careful.locator = tiny_locator()
    make = careful.associative.internalize

    def with_places(document: Document, chunks: Any) -> Any:
        made = make(document, chunks)
        return replace(made, adapter=replace(made.adapter, places=careful.locator.keep(chunks)))

    careful.associative.internalize = with_places
    careful.generator = LocatingGenerator(careful.generator, careful.locator)
    monkeypatch.setattr("hybridqa.engines.prompts._BIAS", logit)

    plan = replace(PLAN, relevant=True)
    report = run_unrelated(careful.config, rivers, plan, open_home=careful)

    worn = logit > 0
    for kind, found in figures(report, "adapter").items():
        assert found.worn == worn
        assert (found.divergence.mean > 1e-3) is worn
        assert found.unchanged.mean == (not worn or kind != "own")
    assert figures(report, "context")["own"].worn == 1
    assert report.text_figures() == []


def test_without_a_locator_nothing_tells_what_bears(careful: Any, rivers: Dataset) -> None:
    with pytest.raises(InputError, match="locator: null"):
        run_unrelated(careful.config, rivers, replace(PLAN, relevant=True), open_home=careful)


def test_each_question_is_asked_without_a_document_once(careful: Any, rivers: Dataset) -> None:
    plan = replace(PLAN, arms=["adapter"], questions=50)
    run_unrelated(careful.config, rivers, plan, open_home=careful)
    plain = [p.question for p in careful.generator.prompts if not (p.adapters or p.passages)]

    assert sorted(plain) == sorted({*plain})
    assert set(chat_questions()) < set(plain)


def test_a_document_that_is_too_long_is_told(careful: Any, rivers: Dataset) -> None:
    make = careful.associative.internalize
    report = run_unrelated(careful.config, rivers, PLAN, open_home=careful)
    too_long = report.documents[0]

    def refuse(document: Document, chunks: Any) -> Any:
        if document.id == too_long:
            raise DocumentTooLongError(document.id, 9, 8)
        return make(document, chunks)

    careful.associative.internalize = refuse
    report = run_unrelated(careful.config, rivers, PLAN, open_home=careful)

    assert list(report.refused) == [too_long]
    assert "limit 8" in report.refused[too_long]
    own = figures(report, "adapter")["own"]
    assert (own.asked, own.refused) == (2, 1)
    assert figures(report, "context")["own"].asked == 3
    assert f"No adapter for `{too_long}`" in grids(report)[0].caption
    assert grids(report)[0].rows[0][-1] == "1"


def test_documents_that_are_all_too_long_leave_the_context(careful: Any, rivers: Dataset) -> None:
    def refuse(document: Document, chunks: Any) -> Any:
        raise DocumentTooLongError(document.id, 9, 8)

    careful.associative.internalize = refuse
    report = run_unrelated(careful.config, rivers, PLAN, open_home=careful)

    assert {each.asked for each in figures(report, "adapter").values()} == {0}
    assert report.text_figures() == []
    (answers,) = grids(report)
    assert answers.rows[0][3:6] == ("-", "-", "-")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"documents": 0}, "number of documents must be at least 1, got 0"),
        ({"questions": -1}, "number of questions must be at least 1, got -1"),
        ({"texts": 0}, "number of texts must be at least 1, got 0"),
        ({"seed": -1}, "seed must be at least 0"),
        ({"arms": ["base"]}, "`base` has no part in this. Name some of: adapter, context"),
        ({"wear": "half"}, "no way to wear an adapter `half`"),
    ],
)
def test_a_bad_plan_is_refused(changes: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        replace(PLAN, **changes)


def test_data_with_too_little_is_refused(careful: Any, rivers: Dataset) -> None:
    one = replace(rivers, documents=rivers.documents[:1], cases=rivers.cases[:1])
    with pytest.raises(InputError, match="has 1 document, but what is unrelated"):
        run_unrelated(careful.config, one, PLAN, open_home=careful)
    nobody = replace(rivers, cases=rivers.cases[-1:])
    with pytest.raises(InputError, match="No question of `rivers` names a document"):
        run_unrelated(careful.config, nobody, PLAN, open_home=careful)


def test_general_questions_are_all_different() -> None:
    assert len(chat_questions()) == len(set(chat_questions())) == 40
    assert all(question == question.strip() for question in chat_questions())


def test_divergence_is_that_of_the_places_of_the_answer() -> None:
    base = tiny_model()
    generator = TorchGenerator(base)
    one, other = Prompt(question="Who?"), Prompt(question="When was it?")
    answer = [5, 9, 40]

    assert divergence(generator, one, one, answer) == pytest.approx(0, abs=1e-6)
    found = divergence(generator, one, other, answer)
    logs = []
    for prompt in (one, other):
        ids = torch.tensor([[*generator.prompt_ids(prompt), *answer]])
        logits = base.model(input_ids=ids).logits[0, -len(answer) - 1 : -1]
        logs.append(torch.log_softmax(logits, -1))
    expected = torch.nn.functional.kl_div(logs[1], logs[0], log_target=True, reduction="sum")
    assert found == pytest.approx(float(expected) / len(answer), rel=1e-4)


def test_surprise_is_the_likelihood_of_a_text() -> None:
    base = tiny_model()
    ids = base.plain_ids("Rain.")
    logprobs = torch.log_softmax(base.model(input_ids=torch.tensor([ids])).logits[0], -1)

    total, tokens = surprise(base, "Rain.", ())

    assert tokens == len(ids) - 1
    expected = -sum(float(logprobs[n, token]) for n, token in enumerate(ids[1:]))
    assert total == pytest.approx(expected, rel=1e-5)
    assert surprise(base, "R", ()) == (0.0, 0)


@pytest.mark.real
def test_the_embedded_models_are_measured() -> None:
    plan = UnrelatedPlan(documents=1, questions=1, texts=1, arms=["adapter"])
    report = run_unrelated(SHORT, load(str(SAMPLE)), plan)

    assert {each.asked for each in report.answer_figures()} == {1}
    assert all(each.before > 1 for each in report.text_figures())
