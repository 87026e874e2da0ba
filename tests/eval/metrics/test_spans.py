import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridqa.eval.metrics.spans import precision, ranked_precision, recall
from hybridqa.eval.rows import SpanRow


def spans(text: str) -> list[SpanRow]:
    """Read `a0-5 b3-9`."""
    parts = [(word[0], *map(int, word[1:].split("-"))) for word in text.split()]
    return [SpanRow(document=d, start=start, end=end) for d, start, end in parts]


@pytest.mark.parametrize(
    ("found", "gold", "share", "ranked", "recalled"),
    [
        ("a0-5", "a4-9", 1, 1, 1),
        ("a0-5", "a5-9", 0, 0, 0),  # neighbours share no character
        ("b0-5", "a0-5", 0, 0, 0),
        ("b0-5 a0-5", "a0-5", 1 / 2, 1 / 2, 1),
        ("a0-5 b0-5", "a0-5", 1 / 2, 1, 1),
        ("a0-5 b0-5 a3-8", "a0-5", 2 / 3, (1 + 2 / 3) / 2, 1),
        ("a0-5", "a0-1 a9-10", 1, 1, 1),  # either span of a document is enough
        ("a0-5", "a0-1 b0-1", 1, 1, 1 / 2),  # but both documents are wanted
        ("", "a0-1", None, 0, 0),
        ("a0-1", "", None, None, None),
    ],
)
def test_known_values(
    found: str, gold: str, share: float | None, ranked: float | None, recalled: float | None
) -> None:
    assert precision(spans(found), spans(gold)) == share
    assert ranked_precision(spans(found), spans(gold)) == ranked
    assert recall(spans(found), spans(gold)) == recalled


_places = st.lists(
    st.builds(
        lambda document, start, length: SpanRow(document=document, start=start, end=start + length),
        st.sampled_from("ab"),
        st.integers(0, 20),
        st.integers(1, 8),
    ),
    min_size=1,
    max_size=6,
)


@given(_places, _places)
def test_all_lie_between_none_and_all_of_it(found: list[SpanRow], gold: list[SpanRow]) -> None:
    for measured in (precision, ranked_precision, recall):
        assert 0 <= measured(found, gold) <= 1
        assert measured(gold, gold) == 1


@given(_places, _places)
def test_finding_more_never_lowers_recall(found: list[SpanRow], gold: list[SpanRow]) -> None:
    assert recall(found, gold) <= recall([*found, *gold[:1]], gold)
