"""Arms and styles by their names."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hybridqa.errors import InputError
from hybridqa.internalize.locating import LocatingGenerator
from hybridqa.testing import tiny_locator
from hybridqa.types import Arm, Document, Style
from hybridqa.wiring import HybridQA
from tests.api.conftest import LAMP, fake_config, fake_models


def test_an_arm_may_be_given_by_its_name(tmp_path: Path) -> None:
    config = fake_config()
    with HybridQA(tmp_path, config, fake_models(config)) as qa:
        qa.ingest(Document(id="lamp", text=LAMP, title="Lamp", source="lamp"))
        named: Any = "adapter"
        free: Any = "free"

        answer = qa.ask("Who designed the Corvane lamp?", named, style=free)

        assert (answer.arm, answer.style) == (Arm.ADAPTER, Style.FREE)
        assert qa.explain("Who designed it?", named).arm is Arm.ADAPTER
        wrong: Any = "oracle"
        with pytest.raises(InputError, match=r"no arm `oracle`\. Use one of"):
            qa.ask("Who?", wrong)
        with pytest.raises(InputError, match="no style `oracle`"):
            qa.ask("Who?", style=wrong)


def test_homes_that_share_models_share_no_document(tmp_path: Path) -> None:
    config = fake_config()
    models = fake_models(config)
    with (
        HybridQA(tmp_path / "one", config, models) as one,
        HybridQA(tmp_path / "two", config, models) as two,
    ):
        one.ingest(Document(id="lamp", text=LAMP, title="Lamp", source="lamp"))

        assert one.base is two.base
        assert one.ask("Who designed the Corvane lamp?").text
        assert two.ask("Who designed the Corvane lamp?").abstained


@pytest.mark.parametrize(("logit", "answers"), [(1000.0, True), (-1000.0, False)])
def test_an_adapter_says_nothing_where_its_document_does_not_bear_on_the_question(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, logit: float, answers: bool
) -> None:
    plain = fake_config()
    config = replace(plain, internalize=replace(plain.internalize, locator="tiny"))
    models = fake_models(config)
    locator = tiny_locator()
    models.locator = locator
    models.generator = LocatingGenerator(models.generator, locator)
    monkeypatch.setattr("hybridqa.engines.prompts._BIAS", logit)
    with HybridQA(tmp_path, config, models) as qa:
        qa.ingest(Document(id="lamp", text=LAMP, title="Lamp", source="lamp"))

        asked = qa.ask("Who designed the Corvane lamp?", Arm.ADAPTER, ["lamp"], Style.FREE)
        read = qa.ask("Who designed the Corvane lamp?", Arm.RETRIEVAL, ["lamp"], Style.FREE)

    (attempt,) = asked.attempts
    assert attempt.relevance == pytest.approx(1.0 if answers else 0.0)
    told = any("the document bears on the question by 0.00" in each for each in asked.reasons)
    assert told is not answers
    assert bool(asked.text) is answers
    assert asked.abstained is not answers
    assert read.text
