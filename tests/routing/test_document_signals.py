from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybridqa.routing.document_signals import document_signals
from hybridqa.types import Document

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
PLAIN = "The lever is to the left of the wheel. Turn it until it clicks, then let go. " * 30


def document(title: str = "Lever", text: str = PLAIN, id: str = "x.md", **more: object) -> Document:
    return replace(Document(id=id, text=text, title=title, source=id), **more)  # type: ignore[arg-type]


def volatility(of: Document) -> float:
    return document_signals(of, NOW).volatility.value


def citation_need(of: Document) -> float:
    return document_signals(of, NOW).citation_need.value


@pytest.mark.parametrize("word", ["volatile", " Volatile "])
def test_the_owners_word_decides(word: str) -> None:
    said = document("Warranty", metadata={"stability": word, "citation": "optional"})

    signals = document_signals(said, NOW)

    assert (signals.volatility.value, signals.citation_need.value) == (1.0, 0.0)
    assert signals.volatility.reasons == (f"its owner says `stability: {word.strip()}`",)


def test_an_owner_who_decides_one_thing_leaves_the_other_to_the_evidence() -> None:
    signals = document_signals(document("Contract", metadata={"stability": "volatile"}), NOW)

    assert signals.volatility.value == 1.0
    assert 0.5 < signals.citation_need.value < 1.0


def test_a_word_we_do_not_know_is_taken_as_the_careful_one() -> None:
    signals = document_signals(document(metadata={"stability": "experimental"}), NOW)

    assert signals.volatility.value == 1.0
    assert "stability: experimental" in signals.volatility.reasons[0]
    assert "neither `stable` nor `volatile`" in signals.volatility.reasons[0]


@pytest.mark.parametrize(
    "title",
    [
        "Price List for Dealers",
        "Firmware Changelog",
        "Release notes of the app",
        "Release Schedule, Winter",
        "On-call roster, weeks 3 to 5",
        "Canteen menu at the quay",
        "Acme: service status",
        "What's New in 3.13",
        "Minutes of the board meeting",
        "Product roadmap",
        "4.2.1",
    ],
)
def test_titles_of_kinds_that_change(title: str) -> None:
    assert volatility(document(title)) > 0.5


@pytest.mark.parametrize(
    "title",
    [
        "Manual of the status page",
        "Price list import guide",
        "Release notes policy",
        "HTTP status codes",
        "A Short History of the Company",
        "Terms of Service",
        "API Reference, version 3",
        "Employee Handbook",
        "Lever",
    ],
)
def test_titles_of_kinds_that_stay(title: str) -> None:
    assert volatility(document(title)) < 0.5


def test_the_file_name_speaks_where_the_title_does_not() -> None:
    assert volatility(document("Lever", id="docs/PriceList.docx")) > 0.5
    assert volatility(document("Lever", id="docs/CHANGELOG.md")) > 0.5


def test_titles_that_need_citing() -> None:
    assert citation_need(document("Supply Agreement between A and B")) > 0.5
    assert citation_need(document("Privacy Policy")) > 0.5
    assert citation_need(document("Canteen menu")) < 0.5
    assert citation_need(document("Quickstart")) < 0.5


def test_descending_versions_are_a_log_and_ascending_ones_are_sections() -> None:
    log = "".join(f"## 1.{n}.0\n\n{PLAIN[:300]}\n\n" for n in range(9, 2, -1))
    sections = "".join(f"## 1.{n}\n\n{PLAIN[:300]}\n\n" for n in range(1, 9))

    assert volatility(document(text=log)) > 0.5
    assert volatility(document(text=sections)) < 0.5


def test_a_list_of_releases_within_a_page_does_not_make_it_a_log() -> None:
    dated = "".join(f"- 2024-0{n}-03: version 1.{n}\n" for n in range(9, 1, -1))
    page = (PLAIN[:60] + "\n") * 60 + dated

    assert volatility(document(text=dated * 2)) > volatility(document(text=page))
    assert volatility(document(text=page)) < 0.5


def test_words_of_the_moment_and_dates_to_come_speak_for_change() -> None:
    plan = "The move is planned for 3 December 2026. Until further notice the gate is shut. "

    signal = document_signals(document(text=plan + PLAIN[:400]), NOW).volatility

    assert signal.value > 0.5
    assert any("until further notice" in reason for reason in signal.reasons)
    assert any("dates of the last half year" in reason for reason in signal.reasons)


def test_the_same_dates_say_less_once_they_are_past() -> None:
    text = "It was shown on 3 December 2026 and on 5 December 2026. " + PLAIN

    later = document_signals(document(text=text), NOW + timedelta(days=2000))

    assert later.volatility.value < volatility(document(text=text))


def test_legal_language_needs_citing_whatever_the_title() -> None:
    text = "The Supplier shall not be liable for damages. Clause 4. The parties shall comply. " * 9

    assert citation_need(document(text=text)) > 0.5


def test_frequent_revisions_speak_for_change_and_a_burst_counts_once() -> None:
    weekly = [NOW - timedelta(weeks=n) for n in range(1, 30)]
    burst = [NOW - timedelta(days=200, minutes=n) for n in range(30)]

    assert volatility(document(revisions=weekly)) > 0.5
    assert volatility(document(revisions=burst)) == volatility(document())


def test_a_long_unchanged_document_is_stable() -> None:
    old = document(revisions=[NOW - timedelta(days=1500)])

    assert volatility(old) < volatility(document())


def test_a_file_time_says_nothing_but_the_owner_and_git_are_believed() -> None:
    lately = NOW - timedelta(days=2)

    def at(witness: str) -> float:
        return volatility(document(modified_at=lately, modified_by=witness))

    assert at("filesystem") == at("unknown") == volatility(document())
    assert at("owner") == at("git") > volatility(document())


def test_long_texts_are_sampled_to_their_end() -> None:
    tail = "Until further notice the price is 4 euros. As of today it is on sale this week. " * 300

    assert volatility(document(text=PLAIN * 50 + tail)) > volatility(document(text=PLAIN * 50))


def test_an_empty_document_has_signals() -> None:
    assert 0 < volatility(document(title="", text="", id="")) < 0.5


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=300), st.text(max_size=40), st.text(max_size=40))
def test_any_text_has_signals_in_range(text: str, title: str, id: str) -> None:
    signals = document_signals(document(title, text, id), NOW)

    assert 0 <= signals.volatility.value <= 1
    assert 0 <= signals.citation_need.value <= 1
