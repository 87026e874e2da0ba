import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybridqa.routing.query_signals import query_signals


@pytest.mark.parametrize(
    "question",
    [
        "Who is on call this week?",
        "What does the pump cost right now?",
        "What is the price of a pump?",
        "Is the pump still in stock?",
        "What's the latest firmware?",
        "When is the next release?",
        "What is the current status of the API?",
        "How many tickets came in over the last 30 days?",
        "What is today's exchange rate?",
        "What is the current price of a 12 volt battery?",
    ],
)
def test_questions_about_the_present(question: str) -> None:
    assert query_signals(question).volatility.value > 0.5


@pytest.mark.parametrize(
    "question",
    [
        "What current does the motor draw in amperes?",
        "What is the maximum current of the 24 volt supply?",
        "Can still water breed germs?",
        "What is the state of matter of mercury?",
        "By when must the form be sent at the latest?",
        "Which status code is returned if the tank is empty?",
        "What does the status lamp mean?",
        "How many nozzles does the pump feed?",
        "When was the company founded?",
        "Who invented the pump?",
    ],
)
def test_timeless_questions_and_false_friends(question: str) -> None:
    assert query_signals(question).volatility.value < 0.5


@pytest.mark.parametrize(
    "question",
    [
        "Where does the staff handbook say who approves leave?",
        "According to the manual, how long is the hose?",
        "Which clause caps damages?",
        "Please quote the passage on leave.",
        "Are we liable for late delivery?",
        "Must we delete logs under GDPR?",
        "Am I entitled to a refund?",
        "How high is the penalty for late payment?",
        "How long is the warranty?",
    ],
)
def test_questions_that_ask_for_a_source(question: str) -> None:
    assert query_signals(question).citation_need.value > 0.5


@pytest.mark.parametrize(
    "question",
    [
        "Where is the source code kept?",
        "Is it open source?",
        "Which power source does it use?",
        "What does Ohm's law say about resistors?",
        "What did her mother-in-law cook?",
        "How long is the hose?",
    ],
)
def test_questions_that_ask_for_no_source(question: str) -> None:
    assert query_signals(question).citation_need.value < 0.5


def test_reasons_name_the_words_and_their_weight() -> None:
    signals = query_signals("Who is on call now?")

    assert "it says `now` (+2.2)" in signals.volatility.reasons
    assert any("`on call`" in reason for reason in signals.volatility.reasons)
    assert signals.citation_need.reasons == ()


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=200))
def test_any_question_has_signals_in_range(question: str) -> None:
    signals = query_signals(question)

    assert 0 < signals.volatility.value < 1
    assert 0 < signals.citation_need.value < 1
