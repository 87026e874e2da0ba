import base64
import gzip
import json
import random
import re
from dataclasses import replace
from typing import Any

import pytest

from hybridqa.errors import InputError
from hybridqa.eval.dashboard.comparison import changes
from hybridqa.eval.rows import CitationRow, Run, SpanRow
from tests.eval.dashboard.conftest import page_of
from tests.eval.synthetic_run import THIRTEEN, make_run

EVIL = "</script><script>alert(1)</script><!--<img src=x onerror=alert(2)>\u2028 {{data}} $data"


def unpacked(page: str) -> Any:
    (packed,) = re.findall(r'id="data">([^<]*)</script>', page)
    return json.loads(gzip.decompress(base64.b64decode(packed)))


def test_page_asks_nothing_of_any_network(run: Run) -> None:
    page = page_of(run)

    assert set(re.findall(r"https?://[^\s\"'<)]*", page)) == {"http://www.w3.org/2000/svg"}
    assert not re.search(r"<link[^>]+href=\"(?!data:,)|<script[^>]+src|@import|url\(", page)
    assert "default-src 'none'" in page


def test_equal_runs_make_equal_pages(run: Run) -> None:
    assert page_of(run) == page_of(run)


def test_no_text_of_a_run_breaks_out_of_the_data() -> None:
    run = make_run(questions=8, arms=("context", "auto"))
    first = replace(run.questions[0], question=EVIL, labels={EVIL: EVIL})
    run = replace(
        run,
        manifest=replace(run.manifest, data=f"a/{EVIL}", command=EVIL),
        questions=(first, *run.questions[1:]),
        answers=(replace(run.answers[0], answer=f"{EVIL} \ud800"), *run.answers[1:]),
    )

    page = page_of(run)

    assert len(re.findall("</script", page)) == 2
    assert page.count("<script") == 2
    assert "<img" not in page
    found = unpacked(page)
    assert found["questions"]["question"][0] == EVIL
    assert f"{EVIL} \ud800" in found["texts"]


def test_texts_stand_in_the_page_once(run: Run) -> None:
    found = unpacked(page_of(run))

    assert len(found["texts"]) == len(set(found["texts"]))
    pointed_at = {span.document for row in run.questions for span in row.spans}
    assert pointed_at <= {document["id"] for document in found["documents"]}


def test_offsets_count_as_javascript_does() -> None:
    run = make_run(questions=7, arms=("retrieval+quote",))
    text = "😀 before, 😀 the answer 😀 after"
    start = text.index("the answer")
    document = replace(run.documents[0], text=text)
    cited = CitationRow(
        document=document.id, start=start, end=start + 10, quote="", score=1, verified="verbatim"
    )
    whole = SpanRow(document=document.id, start=0, end=len(text))
    row = replace(run.answers[0], citations=(cited,), contexts=(whole,))
    run = replace(run, documents=(document,), answers=(row, *run.answers[1:]))

    found = unpacked(page_of(run))

    answers = found["runs"][0]["answers"]["retrieval+quote"]
    ((_, low, high, *_),) = found["lists"][answers["citations"][0]]
    assert text.encode("utf-16-le")[2 * low : 2 * high].decode("utf-16-le") == "the answer"
    ((_, low, high),) = found["lists"][answers["contexts"][0]]
    assert (low, high) == (0, len(text.encode("utf-16-le")) // 2)


def test_thousand_questions_under_thirteen_arms_stay_below_3_mb() -> None:
    rng = random.Random(0)
    vocabulary = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=7)) for _ in range(8000)]
    run = make_run(questions=1000, arms=THIRTEEN)
    wordy = tuple(
        replace(row, answer=" ".join(rng.choices(vocabulary, k=rng.randint(5, 20))))
        for row in run.answers
    )
    longer = tuple(
        replace(row, text=row.text + " ".join(rng.choices(vocabulary, k=300)))
        for row in run.documents
    )

    page = page_of(replace(run, answers=wordy, documents=longer))

    assert len(THIRTEEN) == 13
    assert len(page.encode()) < 3_000_000


def test_runs_of_other_questions_are_not_compared(run: Run) -> None:
    with pytest.raises(InputError, match=r"120 and 60 questions, of which 60 are the same") as told:
        page_of(run, make_run(questions=60))

    assert "--limit" in str(told.value)


def test_reworded_gold_answer_is_another_question(run: Run) -> None:
    changed = (replace(run.questions[0], answers=("other",)), *run.questions[1:])

    with pytest.raises(InputError, match="of which 119 are the same"):
        page_of(run, replace(run, questions=changed))


def test_changes_pair_questions_by_id_in_any_order() -> None:
    run = make_run(questions=6, arms=("context", "auto"))
    values = {question.id: n / 10 for n, question in enumerate(run.questions)}
    scores = tuple(replace(row, scores={"f1": values[row.question]}) for row in run.scores)
    run = replace(run, scores=scores)
    before = replace(
        run,
        questions=run.questions[::-1],
        scores=tuple(
            replace(row, scores={"f1": None if row.question == run.questions[0].id else 0.2})
            for row in run.scores
        ),
    )

    found = changes(run, before)["f1"]["auto"]

    # The first question was not scored before; the third is as it was.
    assert found["n"] == 5
    assert (found["improved"], found["regressed"]) == (3, 1)
    assert found["before"] == pytest.approx(0.2)
    assert found["after"] == pytest.approx(0.3)
    assert found["mean"] == pytest.approx(0.1)
    assert found["low"] <= found["mean"] <= found["high"]


def test_each_run_keeps_its_own_text_of_a_document(run: Run) -> None:
    (first, *others) = run.documents
    before = replace(run, documents=(replace(first, text="An older text."), *others))

    found = unpacked(page_of(run, before))

    texts = [document["text"] for document in found["documents"] if document["id"] == first.id]
    assert texts == [first.text, "An older text."]


def test_run_with_an_answer_twice_is_damaged(run: Run) -> None:
    doubled = replace(run, answers=(run.answers[1], *run.answers[1:]))

    with pytest.raises(InputError, match="damaged"):
        page_of(doubled)
