import subprocess
import sys

import pytest

from hybridqa.errors import InputError
from hybridqa.eval.metrics.catalog import GROUPS, METRICS, parse_metrics


def test_groups_and_names_are_taken_once_in_the_order_given() -> None:
    assert parse_metrics(["faithfulness", " f1", "f1", "offline"])[:2] == ("faithfulness", "f1")
    assert sorted(parse_metrics(["f1", "offline"])) == sorted(GROUPS["offline"])
    assert parse_metrics(["all"]) == tuple(METRICS)


def test_the_groups_part_the_metrics_by_judge() -> None:
    assert {*GROUPS["offline"]} | {*GROUPS["judge"]} == {*METRICS}
    assert all(METRICS[name].judge for name in GROUPS["judge"])
    assert not any(METRICS[name].judge for name in GROUPS["offline"])


@pytest.mark.parametrize(("names", "named"), [(["f1", "bleurt"], "`bleurt`"), ([], "No metric")])
def test_an_unknown_metric_is_told_with_those_there_are(names: list[str], named: str) -> None:
    with pytest.raises(InputError, match=f"{named}.*Choose from offline, judge, all, correct"):
        parse_metrics(names)


def test_every_metric_is_told_in_one_sentence() -> None:
    for metric in METRICS.values():
        assert metric.description.endswith(".")
        assert ". " not in metric.description


def test_nothing_heavy_is_imported_before_it_is_needed() -> None:
    modules = ("offline", "judging", "judgements", "remote_judge")
    code = "; ".join(f"import hybridqa.eval.metrics.{name}" for name in modules)
    code += "; import sys; print({'ragas', 'torch', 'openai', 'rouge_score'} & {*sys.modules})"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "set()"
