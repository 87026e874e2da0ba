"""What stands in each arm's prompt, what it wears, and what it may quote."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hybridqa.config import IndexConfig
from hybridqa.engines.stopwatch import Stopwatch
from hybridqa.errors import DocumentTooLongError, InputError, QuestionError
from hybridqa.eval.arms import ArmName, StyledArm, parse_arms
from hybridqa.eval.asking import Asker
from hybridqa.eval.bench import Bench
from hybridqa.eval.cases import Case, Dataset
from hybridqa.eval.requests import Request, Requests
from hybridqa.eval.rows import AnswerRow
from hybridqa.testing import written_text
from hybridqa.types import Document, Style


def request(homes: Any, path: Path, dataset: Dataset, arm: ArmName, style: Style) -> Request:
    """Return what is asked for the first question."""
    with homes(path, replace(homes.config, index=replace(homes.config.index, url=None))) as qa:
        bench = Bench(qa, dataset, [arm])
        bench.prepare()
        made = Requests(qa, bench).request(StyledArm(arm, style), dataset.cases[0], Stopwatch())
        assert made is not None
        return made


def answers(
    homes: Any, path: Path, dataset: Dataset, arm: ArmName, style: Style = Style.FREE, size: int = 9
) -> list[AnswerRow]:
    """Return what all questions yield, in batches."""
    with homes(path, replace(homes.config, index=replace(homes.config.index, url=None))) as qa:
        bench = Bench(qa, dataset, [arm])
        bench.prepare()
        rows: list[AnswerRow] = []
        requests = Requests(qa, bench)
        asker = Asker(qa, requests, (), rows.extend, lambda stage, done, total: None)
        asker.in_batches(StyledArm(arm, style), dataset.cases, size)
        return rows


@pytest.mark.parametrize("style", list(Style))
@pytest.mark.parametrize(
    ("arm", "reads", "wears", "may_quote"),
    [
        (ArmName.BASE, 0, None, 1),
        (ArmName.CONTEXT, 1, None, 1),
        (ArmName.ADAPTER, 0, "Lancaster", 1),
        (ArmName.DISTILLED, 0, "Lancaster", 1),
        (ArmName.WRONG_ADAPTER, 0, "Derby", 1),
        (ArmName.RETRIEVAL, 2, None, 2),
        (ArmName.BOTH, 2, "Lancaster", 2),
    ],
)
def test_prompts(
    homes: Any,
    rivers: Dataset,
    tmp_path: Path,
    arm: ArmName,
    reads: int,
    wears: str | None,
    may_quote: int,
    style: Style,
) -> None:
    made = request(homes, tmp_path / "home", rivers, arm, style)
    prompt, own = made.prompt, "Lancaster lies on the river Lune."

    assert len(prompt.passages) == reads
    assert prompt.passages[:1] == ((own,) if reads else ())
    asked = [prompt, *(expert.prompt for expert in prompt.pool)]  # whoever wears it
    assert [bool(each.passages) for each in asked] == [bool(reads), *[False] * len(prompt.pool)]
    texts = [written_text(adapter) for each in asked for adapter in each.adapters]
    assert [text.split()[0] for text in texts] == ([wears] if wears else [])
    assert (made.record.document_id if made.record else None) == {
        "Lancaster": "Lune",
        "Derby": "Derwent",
        None: None,
    }[wears]
    looked_through = style is Style.EITHER and arm in (ArmName.RETRIEVAL, ArmName.BOTH)
    assert (prompt.instead is not None) is looked_through
    if style is not Style.QUOTE and not looked_through:  # fake adapters have no places
        assert prompt.quote_from is None
    else:
        assert prompt.quote_from is not None
        assert prompt.quote_from[0] == own
        assert len(prompt.quote_from) == may_quote
    assert prompt.max_tokens == 5


def test_of_a_long_document_the_part_is_worn_that_bears_on_the_question(
    homes: Any, tmp_path: Path
) -> None:
    filler = " Filler and nothing else." * 25
    fact = " Preston lies on the river Ribble."
    document = Document(id="Ribble", text=filler + fact + filler, title="", source="")
    case = Case(
        id="q", question="What lies on the river Ribble?", answers=("x",), documents=("Ribble",)
    )
    homes.config = replace(homes.config, index=IndexConfig(chunk_tokens=64))
    made = request(
        homes,
        tmp_path / "home",
        Dataset(name="long", documents=(document,), cases=(case,)),
        ArmName.ADAPTER,
        Style.QUOTE,
    )

    (adapter,) = made.prompt.adapters
    assert "Preston" in written_text(adapter)
    assert len(written_text(adapter)) < 100
    assert made.prompt.quote_from == (written_text(adapter),)


def test_a_question_of_no_document_is_asked_about_the_nearest(
    homes: Any, rivers: Dataset, tmp_path: Path
) -> None:
    lost = replace(rivers.cases[0], answers=(), documents=(), spans=())
    made = request(
        homes, tmp_path / "home", replace(rivers, cases=(lost,)), ArmName.CONTEXT, Style.FREE
    )

    assert made.prompt.passages == ("Lancaster lies on the river Lune.",)


def test_several_documents_answer_one_question(homes: Any, rivers: Dataset, tmp_path: Path) -> None:
    both = replace(rivers.cases[0], documents=("Nidd", "Lune"))
    dataset = replace(rivers, cases=(both,))
    made = request(homes, tmp_path / "home", dataset, ArmName.CONTEXT, Style.QUOTE)

    assert [text.split()[0] for text in made.prompt.passages] == ["Knaresborough", "Lancaster"]
    made = request(homes, tmp_path / "other", dataset, ArmName.WRONG_ADAPTER, Style.FREE)
    assert made.record is not None
    assert made.record.document_id not in both.documents


def test_a_prompt_too_long_fails_alone(homes: Any, rivers: Dataset, tmp_path: Path) -> None:
    answer = homes.generator.generate

    def refuse(prompts: Any) -> Any:
        if any("Derby" in "".join(prompt.passages) for prompt in prompts):
            raise QuestionError("The prompt is too long.")
        return answer(prompts)

    homes.generator.generate = refuse
    rivers = replace(rivers, cases=rivers.cases[:4])
    rows = answers(homes, tmp_path / "home", rivers, ArmName.CONTEXT)

    assert {row.question: row.error for row in rows if row.error} == {
        "q-Derwent": "The prompt is too long."
    }
    assert {row.answer for row in rows if row.question == "q-Lune"} == {"Lancaster"}


def test_a_document_without_an_adapter_is_told(homes: Any, rivers: Dataset, tmp_path: Path) -> None:
    def refuse(document: Document, chunks: Any) -> Any:
        raise DocumentTooLongError(document.id, 9, 8)

    homes.associative.internalize = refuse
    rows = answers(homes, tmp_path / "home", rivers, ArmName.ADAPTER)

    assert {row.error for row in rows} == {"there is no adapter to wear"}
    assert not any(row.abstained for row in rows)


def test_batches_are_no_larger_than_asked_and_hold_no_long_prompts(
    homes: Any, rivers: Dataset, tmp_path: Path
) -> None:
    rows = answers(homes, tmp_path / "home", rivers, ArmName.BASE, size=3)
    assert sorted(row.batch for row in rows) == [2, 2, 3, 3, 3]
    assert all(not row.timings_ms for row in rows)  # nobody's own

    long = tuple(replace(d, text=d.text + " Filler." * 2500) for d in rivers.documents)
    rows = answers(
        homes, tmp_path / "long", replace(rivers, documents=long), ArmName.CONTEXT, size=9
    )
    assert max(row.batch for row in rows) == 2


def test_impossible_arms_are_refused(homes: Any, rivers: Dataset, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no arm `contxt`.* base, context, adapter, wrong-"):
        parse_arms(["base", "contxt"])
    with pytest.raises(InputError, match="No arm is named"):
        parse_arms([])
    assert parse_arms(["both", " base", "both"]) == (ArmName.BOTH, ArmName.BASE)
    with homes(tmp_path / "home", homes.config) as qa:
        one = replace(rivers, documents=rivers.documents[:1], cases=rivers.cases[:1])
        with pytest.raises(InputError, match="`wrong-adapter` needs a document"):
            Bench(qa, one, [ArmName.WRONG_ADAPTER])
        qa.config = replace(
            qa.config, internalize=replace(qa.config.internalize, internalizer="none")
        )
        with pytest.raises(InputError, match="adapter, auto wear adapters"):
            Bench(qa, rivers, [ArmName.AUTO, ArmName.ADAPTER, ArmName.DISTILLED])
