"""The quick comparison: its table, its JSON, its rows."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from hybridqa.config import Config
from hybridqa.errors import InputError
from hybridqa.eval.arms import TRAINED, ArmName
from hybridqa.eval.qa import DEFAULT_ARMS, QaReport, run_qa
from hybridqa.eval.report import differences, markdown, table

TOWNS = {"Lune": "Lancaster", "Derwent": "Derby", "Ribble": "Preston", "Nidd": "Knaresborough"}


def written(path: Path, unanswerable: int = 1) -> Path:
    rows = [
        {
            "id": river,
            "context": f"{town} lies on the river {river}.",
            "qas": [
                {"question": f"What lies on the {river}?", "answers": [town]},
                *[{"question": f"Who dug the {river}?", "answers": []}] * unanswerable,
            ],
        }
        for river, town in TOWNS.items()
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


@pytest.fixture
def report(homes: Any, tmp_path: Path) -> QaReport:
    file = written(tmp_path / "rivers.jsonl")
    return run_qa(homes.config, file, list(ArmName), limit=3, open_home=homes)


def test_json_has_the_promised_shape(report: QaReport) -> None:
    told = json.loads(json.dumps(report.as_dict()))

    assert (told["n"], told["passages"], told["skipped"], told["seed"]) == (3, 3, 4, 0)
    assert told["arms"]["adapter"]["f1"] == {"mean": 1, "low": 1, "high": 1}
    assert told["arms"]["wrong-adapter"]["f1"]["mean"] == 0
    assert told["arms"]["adapter"]["relative_to_context"] == 1
    assert told["arms"]["auto"]["routes"]
    assert told["differences"]["adapter+quote - wrong-adapter+quote"]["low"] == 1
    assert told["model"]["internalizer"] == "associative"
    row = report.rows()[0]
    assert row["outcomes"]["context"]["scores"] == {"f1": 1, "exact_match": 1, "rouge_l": 1}
    json.dumps(row)


def test_reports_show_every_arm(report: QaReport) -> None:
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(table(report), differences(report))
    drawn, as_markdown = console.export_text(), markdown(report)

    for name in report.arms:
        assert f" {name} " in drawn
        assert f"| `{name}` |" in as_markdown
    assert "1.000 (1.000–1.000)" in drawn
    assert "adapter - wrong-adapter" in drawn


def test_data_without_gold_answers_is_refused(homes: Any, tmp_path: Path) -> None:
    file = tmp_path / "blank.jsonl"
    file.write_text(json.dumps({"id": "a", "context": "Text.", "qas": []}))
    with pytest.raises(InputError, match="question"):
        run_qa(homes.config, file, open_home=homes)
    file.write_text(
        json.dumps({"id": "a", "context": "Text.", "qas": [{"question": "Why?", "answers": []}]})
    )
    with pytest.raises(InputError, match=r"None of the 1 questions .* has a gold answer"):
        run_qa(homes.config, file, open_home=homes)
    with pytest.raises(InputError, match="batch size must be at least 1"):
        run_qa(homes.config, written(file), batch_size=0)


@pytest.mark.real
def test_the_embedded_model_reads(tmp_path: Path) -> None:
    file = tmp_path / "facts.jsonl"
    facts = {
        "The Hale bridge was opened in 1904 by Ada Quill.": ("Who opened it?", "Ada Quill"),
        "Brindle cheese is made from the milk of goats.": ("Which animal gives milk?", "goats"),
        "The library closes at nine on Fridays.": ("When does the library close?", "nine"),
        "Mount Orrin is 2,310 metres high.": ("How high is Mount Orrin?", "2,310 metres"),
    }
    rows = [
        {"id": str(n), "context": text, "qas": [{"question": question, "answers": [gold]}]}
        for n, (text, (question, gold)) in enumerate(facts.items())
    ]
    file.write_text("\n".join(map(json.dumps, rows)))

    report = run_qa(Config(), file, ["context", "adapter", "wrong-adapter"])

    assert report.arms["context+quote"].f1.mean > 0.5
    assert report.arms["adapter"].failed == 0
    assert report.arms["adapter+quote"].f1.mean > report.arms["wrong-adapter+quote"].f1.mean
    assert set(DEFAULT_ARMS) == set(ArmName) - {ArmName.AUTO, *TRAINED}
