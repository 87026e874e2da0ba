"""What the page says of a run, in a real Chromium: which arm to use, why, and the figures."""

from dataclasses import replace
from pathlib import Path

import pytest

from hybridqa.eval.rows import Run
from hybridqa.eval.summary import summarize
from tests.eval.dashboard.conftest import OpenTab, page_of
from tests.eval.synthetic_run import make_run


def test_headline_names_the_best_arm_that_can_be_used(
    run: Run, page: Path, open_tab: OpenTab
) -> None:
    summary = summarize(run).as_dict()
    matrix = summary["matrix"]
    candidates = [
        arm for arm in matrix if arm.split("+")[0] not in ("base", "context", "wrong-adapter")
    ]
    best = max(candidates, key=lambda arm: matrix[arm]["f1"]["mean"])
    even = {
        (row["one"], row["other"])
        for row in summary["differences"]
        if row["metric"] == "f1" and row["low"] <= 0 <= row["high"]
    }

    tab = open_tab(page)

    assert best in tab.locator("h1").inner_text()
    assert tab.locator(".rank.best").inner_text().startswith(best)
    assert f"{matrix[best]['f1']['mean']:.2f}" in tab.locator("#because").inner_text()
    badges = tab.locator("#ranking-chart .badge").all_inner_texts()
    as_good = [arm for arm in candidates if {(arm, best), (best, arm)} & even]
    assert sorted(badges) == ["as good"] * len(as_good) + ["use this"]
    for section in ("scores", "differences", "router", "confidence", "slices", "facts"):
        assert tab.locator(f"#{section}").inner_text().strip()
    assert tab.locator("#scatter .point.router").count() == 1
    assert "plumbing, not judgement" in tab.locator("#judge-note").inner_text()
    assert "unscored" in tab.locator("#matrix").inner_text()


@pytest.mark.parametrize(
    ("timed", "title"),
    [
        (True, "Let the router auto choose; retrieval+quote is no better, and slower."),
        (False, "Use retrieval+quote; the router auto is no better."),
    ],
)
def test_of_two_equal_arms_the_faster_is_picked(
    tmp_path: Path, open_tab: OpenTab, timed: bool, title: str
) -> None:
    run = make_run(questions=28, arms=("adapter+quote", "retrieval+quote", "auto"))
    scores = {row.question: row for row in run.scores if row.arm == "retrieval+quote"}
    run = replace(
        run,
        scores=tuple(
            replace(scores[row.question], arm="auto") if row.arm == "auto" else row
            for row in run.scores
        ),
        answers=run.answers if timed else tuple(replace(row, timings_ms={}) for row in run.answers),
    )
    file = tmp_path / "tied.html"
    file.write_text(page_of(run), encoding="utf-8")

    tab = open_tab(file)

    assert tab.locator("h1").inner_text() == title
    assert tab.locator(".rank.best").inner_text().startswith("auto" if timed else "retrieval+quote")
    assert "as good" in tab.locator("#ranking-chart").inner_text()


def test_cost_card_sets_the_adapter_against_retrieval_of_the_policys_style(
    run: Run, page: Path, open_tab: OpenTab
) -> None:
    summary = summarize(run).as_dict()
    (pays,) = [
        row["questions"]
        for row in summary["break_even"]
        if (row["adapter_arm"], row["other_arm"], row["by"])
        == ("adapter+quote", "retrieval+quote", "time")
    ]
    ours, theirs = (
        summary["matrix"][arm]["f1"]["mean"] for arm in ("adapter+quote", "retrieval+quote")
    )

    tab = open_tab(page)

    assert pays < 9.95
    assert (
        f"In time alone adapter+quote pays from {pays:.1f} questions a document against "
        f"retrieval+quote, but it scores {ours:.2f} against {theirs:.2f}."
    ) in tab.locator("#cards").inner_text()


@pytest.mark.parametrize(
    ("adapter", "base", "answer", "kind"),
    [
        (0.5, 0.2, "Yes.", "good"),
        (0.25, 0.0, "A little.", "even"),
        (0.5, 0.6, "A little.", "even"),
        (0.1, 0.0, "Not shown here.", "bad"),
    ],
)
def test_adapters_know_much_only_if_better_than_wrong_ones_and_than_none(
    tmp_path: Path, open_tab: OpenTab, adapter: float, base: float, answer: str, kind: str
) -> None:
    run = make_run(questions=28, arms=("base", "adapter", "wrong-adapter"))
    values = {"base": base, "adapter": adapter, "wrong-adapter": 0.2}
    scores = tuple(replace(row, scores={**row.scores, "f1": values[row.arm]}) for row in run.scores)
    file = tmp_path / "controls.html"
    file.write_text(page_of(replace(run, scores=scores)), encoding="utf-8")

    tab = open_tab(file)

    card = tab.locator(f".card.{kind}", has_text="Do adapters know their document?")
    assert card.locator(".answer").inner_text() == answer
    assert f"base): free {adapter - base:+.2f}".replace("-", "\u2212") in card.inner_text()


def test_silence_is_told_apart_by_whether_there_is_an_answer(
    run: Run, page: Path, open_tab: OpenTab
) -> None:
    none = {question.id for question in run.questions if not question.answers}
    silent = [row for row in run.answers if row.arm == "auto" and row.abstained]
    declined = sum(row.question in none for row in silent)

    tab = open_tab(page)

    row = tab.locator("#matrix tbody tr", has=tab.get_by_text("auto", exact=True)).inner_text()
    assert f"{declined} of {len(none)}" in row
    assert f"{len(silent) - declined} of {len(run.questions) - len(none)}" in row


def test_metric_that_is_the_same_for_every_arm_is_told_once(
    tmp_path: Path, open_tab: OpenTab
) -> None:
    run = make_run(questions=14, arms=("context", "auto"))
    run = replace(
        run,
        manifest=replace(run.manifest, metrics=(*run.manifest.metrics, "context_recall")),
        scores=tuple(
            replace(row, scores={**row.scores, "context_recall": 0.75}) for row in run.scores
        ),
    )
    file = tmp_path / "same.html"
    file.write_text(page_of(run), encoding="utf-8")

    tab = open_tab(file)

    assert "Context recall 0.75 (0.75 to 0.75)." in tab.locator("#same-note").inner_text()
    assert "Context recall" not in tab.locator("#matrix thead").inner_text()


def test_confidence_is_judged_in_words_and_few_answers_are_hollow(
    run: Run, page: Path, open_tab: OpenTab
) -> None:
    calibration = summarize(run).as_dict()["calibration"]["auto"]
    bins = calibration["bins"]
    surplus = sum(b["n"] * (b["confidence"] - b["accuracy"]) for b in bins if b["n"] >= 5)

    tab = open_tab(page)

    verdict = tab.locator("#confidence-controls .figures").inner_text()
    assert surplus / calibration["n"] > 0.06
    assert verdict.startswith("Overconfident: answers of about ")
    assert tab.locator("#reliability circle").count() == len(bins)
    assert tab.locator("#reliability circle.few").count() == sum(b["n"] < 5 for b in bins) > 0


def test_each_timed_arm_is_named_in_the_plot(run: Run, page: Path, open_tab: OpenTab) -> None:
    tab = open_tab(page)

    named = tab.locator("#scatter .label").all_text_contents()
    assert sorted(named) == sorted(run.manifest.arms)


def test_matrix_shows_each_mean_of_the_summary(run: Run, page: Path, open_tab: OpenTab) -> None:
    summary = summarize(run).as_dict()

    tab = open_tab(page)

    for arm in ("base", "both+quote", "auto"):
        row = tab.locator("#matrix tbody tr", has=tab.get_by_text(arm, exact=True))
        means = row.locator("td.shade b").all_inner_texts()
        cells = [summary["matrix"][arm][metric["name"]] for metric in summary["metrics"]]
        assert means == [f"{cell['mean']:.2f}" for cell in cells if cell]
