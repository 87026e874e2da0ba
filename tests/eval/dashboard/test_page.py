"""The page in a real Chromium, opened from disk without a network."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hybridqa.eval.dashboard.measure import measure
from hybridqa.eval.rows import Run
from tests.eval.dashboard.conftest import OpenTab, page_of
from tests.eval.synthetic_run import make_run

PHONE = 390
CITED_IN_SIGHT = """() => {
  const place = (what) => document.querySelector(what).getBoundingClientRect();
  const [pane, mark] = [place("#text"), place("#text mark.cited")];
  return mark.top >= pane.top && mark.bottom <= pane.bottom;
}"""
EVIL = "<img src=x onerror=\"document.title='broken'\"></script><script>alert(1)</script>"


def shown(tab: Any) -> int:
    return int(tab.locator("#count").inner_text().split(" of ")[0].replace(",", ""))


def f1(run: Run, arm: str) -> list[float | None]:
    return run.table("f1")[arm]


def test_search_and_filters_find_what_they_say(run: Run, page: Path, open_tab: OpenTab) -> None:
    tab = open_tab(page, "#arms=context,auto")
    pairs = list(zip(f1(run, "context"), f1(run, "auto"), strict=True))

    assert shown(tab) == 120
    tab.locator("#filter-improved").click()
    assert shown(tab) == sum(after > before for before, after in pairs)
    assert tab.locator("#filter-improved").get_attribute("aria-pressed") == "true"
    tab.locator("#filter-regressed").click()
    assert shown(tab) == sum(after < before for before, after in pairs)
    tab.locator("#filter-unanswerable").click()
    assert shown(tab) == sum(not question.answers for question in run.questions)
    correct = run.table("correct")["context"]
    tab.locator("#filter-right").click()
    assert shown(tab) == correct.count(1.0) > 0
    tab.locator("#filter-wrong").click()
    assert shown(tab) == correct.count(0.0) > 0
    tab.locator("#filter-all").click()
    tab.locator("#search").fill("warranty mistrel")
    assert shown(tab) == sum(
        "Mistrel" in q.question and "warranty" in q.question for q in run.questions
    )
    tab.locator("#search").fill("no such words")
    assert "No question matches" in tab.locator("#table").inner_text()
    tab.get_by_role("button", name="Show all").click()
    assert shown(tab) == 120


def test_slices_filter_by_value_and_sorting_orders(run: Run, page: Path, open_tab: OpenTab) -> None:
    tab = open_tab(page, "#arms=context,auto")

    tab.locator("#table-label").select_option("stability")
    tab.locator("#table-value").select_option("volatile")
    assert shown(tab) == sum(q.labels["stability"] == "volatile" for q in run.questions)
    tab.locator("#table-sort").select_option("loss")
    first = tab.locator("#table tbody td.delta").first.inner_text()
    pairs = zip(run.questions, f1(run, "context"), f1(run, "auto"), strict=True)
    worst = min(after - before for q, before, after in pairs if q.labels["stability"] == "volatile")
    assert first == f"▼ \u2212{abs(worst):.2f}"


def test_row_opens_to_answers_reasons_and_the_cited_words(
    run: Run, page: Path, open_tab: OpenTab
) -> None:
    row = next(
        row
        for row in run.answers
        if row.arm == "auto"
        and row.citations
        and row.citations[0].document in row.contexts[0].document
    )
    question = next(q for q in run.questions if q.id == row.question)
    tab = open_tab(page, f"#arms=context,auto&find={row.question}")

    row_shown = tab.locator("#table").inner_text()
    assert "auto \u2212 context" in row_shown
    assert f"expected: {' or '.join(question.answers)}" in row_shown
    tab.locator("#table td").first.click()
    dialog = tab.locator("#detail")
    dialog.locator("[id='given-auto']").click()

    assert dialog.locator("#detail-title").inner_text() == question.question
    assert dialog.locator(".given").count() == len(run.manifest.arms)
    told = dialog.locator(".given.chosen").inner_text()
    assert row.answer in told
    assert row.reasons[0].split("`")[0].strip() in told
    assert dialog.locator("mark.cited").nth(1).inner_text() == row.citations[0].quote
    assert tab.evaluate(CITED_IN_SIGHT)
    gold = "".join(dialog.locator("#text mark.gold").all_inner_texts())
    assert question.answers[0] in gold or row.citations[0].document != question.documents[0]


def test_address_brings_back_the_same_view(run: Run, page: Path, open_tab: OpenTab) -> None:
    tab = open_tab(page)
    tab.locator("#search").fill("pump")
    tab.locator("#filter-disagree").click()
    tab.locator("#table a.open").nth(2).click()
    title = tab.locator("#detail-title").inner_text()
    address = tab.evaluate("location.hash")

    again = open_tab(page, address)

    assert again.locator("#detail-title").inner_text() == title
    again.locator("#detail-close").click()
    assert again.locator("#search").input_value() == "pump"
    assert shown(again) == shown(tab)
    assert "open=" not in again.evaluate("location.hash")


@pytest.mark.parametrize(
    "hash",
    [
        "#arms=nobody,auto&metric=toString&show=__proto__",
        "#open=q999&slice=constructor&page=-3",
        "#open=",
    ],
)
def test_wrong_addresses_are_passed_over(page: Path, open_tab: OpenTab, hash: str) -> None:
    tab = open_tab(page, hash)

    assert shown(tab) == 120
    assert not tab.locator("#detail").is_visible()


def test_keyboard_alone_is_enough(page: Path, open_tab: OpenTab) -> None:
    tab = open_tab(page)
    focused = "document.activeElement.closest('tr')?.id ?? document.activeElement.id"

    tab.keyboard.press("/")
    assert tab.evaluate(focused) == "search"
    tab.keyboard.type("pump")
    tab.keyboard.press("Escape")
    assert tab.locator("#search").input_value() == ""
    tab.keyboard.press("j")
    tab.keyboard.press("j")
    tab.keyboard.press("ArrowDown")
    tab.keyboard.press("k")
    assert tab.evaluate(focused) == "row-1"
    tab.keyboard.press("Enter")
    tab.locator("#detail").wait_for()
    first = tab.locator("#detail-title").inner_text()
    tab.keyboard.press("j")
    assert tab.locator("#detail-title").inner_text() != first
    tab.keyboard.press("Escape")
    tab.locator("#detail").wait_for(state="hidden")
    assert tab.evaluate(focused) == "row-2"


def test_last_row_of_a_page_leads_to_the_next(page: Path, open_tab: OpenTab) -> None:
    tab = open_tab(page)

    tab.locator("#table a.open").last.focus()
    tab.keyboard.press("j")

    assert "page 2 of 3" in tab.locator("#pager").inner_text()
    assert tab.evaluate("document.activeElement.closest('tr').id") == "row-50"


def test_what_is_pointed_at_explains_itself(page: Path, open_tab: OpenTab) -> None:
    tab = open_tab(page)

    tab.locator("#matrix .term").first.focus()

    assert "says what is expected" in tab.locator("#tip").inner_text()
    assert tab.locator("#matrix .term").first.get_attribute("aria-describedby") == "tip"
    tab.keyboard.press("Escape")
    assert not tab.locator("#tip").is_visible()


@pytest.mark.parametrize("hash", ["", "#open=q0003"])
def test_phone_never_scrolls_sideways(
    page: Path, compared: Path, open_tab: OpenTab, hash: str
) -> None:
    for file in (page, compared):
        tab = open_tab(file, hash, width=PHONE, dark=True)

        assert tab.evaluate("document.documentElement.scrollWidth") <= PHONE
        if hash:
            assert tab.locator("#detail").bounding_box()["width"] <= PHONE


def test_two_runs_are_compared_arm_by_arm_and_row_by_row(
    run: Run, before: Run, compared: Path, open_tab: OpenTab
) -> None:
    pairs = list(zip(f1(before, "auto"), f1(run, "auto"), strict=True))
    mean = sum(after - old for old, after in pairs) / len(pairs)

    tab = open_tab(compared)

    row = tab.locator("#change-table tbody tr", has=tab.get_by_text("auto", exact=True))
    assert f"+{mean:.2f}" in row.inner_text()
    assert "`" not in tab.locator("h1").inner_text()
    assert "auto" in tab.locator("h1").inner_text()
    assert tab.locator("#table thead").inner_text().split("\t")[1:3] == [
        "auto (before)",
        "auto (after)",
    ]
    tab.locator("#filter-improved").click()
    assert shown(tab) == sum(after > old for old, after in pairs)
    tab.locator("#table a.open").first.click()
    assert tab.locator("#detail .given").count() == 2 * len(run.manifest.arms)


def test_markup_in_a_run_is_text_on_the_page(tmp_path: Path, open_tab: OpenTab) -> None:
    run = make_run(questions=8, arms=("context", "retrieval", "auto"))
    run = replace(
        run,
        manifest=replace(run.manifest, command=EVIL),
        documents=tuple(replace(row, title=EVIL, text=EVIL + row.text) for row in run.documents),
        questions=tuple(replace(row, question=EVIL + row.id) for row in run.questions),
        answers=tuple(
            replace(row, answer=EVIL, reasons=(EVIL,), error=None) for row in run.answers
        ),
    )
    file = tmp_path / "evil.html"
    file.write_text(page_of(run), encoding="utf-8")

    tab = open_tab(file, "#open=q0001")

    assert EVIL in tab.locator("#detail").inner_text()
    assert tab.locator("main img, dialog img, main script").count() == 0
    assert tab.title() != "broken"


def test_run_of_one_arm_without_much_is_still_shown(tmp_path: Path, open_tab: OpenTab) -> None:
    run = make_run(questions=7, arms=("base",))
    scores = tuple(replace(row, scores={"f1": row.scores["f1"]}, failures={}) for row in run.scores)
    answers = tuple(replace(row, batch=8, timings_ms={}) for row in run.answers)
    manifest = replace(run.manifest, metrics=("f1",), judge=None, adapters=())
    bare = replace(run, scores=scores, answers=answers, manifest=manifest)
    file = tmp_path / "bare.html"
    file.write_text(page_of(bare), encoding="utf-8")

    tab = open_tab(file, "#open=q0002")

    assert "base" in tab.locator("h1").inner_text()
    assert "base" in tab.locator("#detail .given").inner_text()


def test_damaged_page_says_so(page: Path, tmp_path: Path, browser: Any) -> None:
    file = tmp_path / "damaged.html"
    text = page.read_text(encoding="utf-8")
    cut = text.index('id="data">') + 2000
    file.write_text(text[:cut] + text[text.index("</script>") :], encoding="utf-8")

    tab = browser.new_page()
    tab.goto(file.as_uri())

    tab.wait_for_selector("#trouble:not([hidden])")
    assert "hybridqa eval dashboard" in tab.locator("#trouble").inner_text()
    tab.close()


def test_loading_and_filtering_are_measured(page: Path, browser: Any) -> None:
    with ThreadPoolExecutor(1) as pool:  # playwright allows one at a time in a thread
        load_ms, filter_ms = pool.submit(measure, page, 1).result()

    assert 0 < load_ms < 20_000
    assert 0 < filter_ms < 20_000
