import pytest

from hybridqa.eval.metrics import agrees, exact_match, mentions, normalize, rouge_l, token_f1


def test_normalizes_as_squad_does() -> None:
    assert normalize("  The U.S.A.,  an\tarea — in a Theatre!") == "usa area — in theatre"


@pytest.mark.parametrize(
    ("answer", "gold", "f1", "exact", "rouge"),
    [
        ("the Lune", "Lune.", 1.0, 1.0, 2 / 3),  # ROUGE-L keeps articles
        ("river Lune", "Lune", 2 / 3, 0.0, 2 / 3),
        ("b a c", "c b d", 2 / 5 * 2, 0.0, 1 / 3),  # SQuAD drops `a`; in order is one of three
        ("x x x", "x", 0.5, 0.0, 0.5),
        ("Lancaster", "Lune", 0.0, 0.0, 0.0),
        ("308", "308 points", 2 / 3, 0.0, 2 / 3),
    ],
)
def test_known_values(answer: str, gold: str, f1: float, exact: float, rouge: float) -> None:
    assert token_f1(answer, gold) == pytest.approx(f1)
    assert exact_match(answer, gold) == exact
    assert rouge_l(answer, gold) == pytest.approx(rouge)


def test_words_that_normalize_to_nothing_are_equal_only_to_each_other() -> None:
    assert token_f1("The", "a") == 1
    assert token_f1("Lune", "a") == 0


@pytest.mark.parametrize(
    ("answer", "golds", "agreed"),
    [
        ("27", ["27 days"], True),
        ("the 27 days of leave", ["31", "27 days"], True),
        ("days", ["27 days"], False),  # the number is missing
        ("three months", ["14 months"], False),
        ("Marrow", ["Ilse Marrow"], True),
        ("a", ["A"], True),  # though nothing is left of either
        ("the", ["A"], False),
        ("", ["A"], False),
        ("27", [], False),
    ],
)
def test_an_answer_agrees_that_says_more_or_less_but_no_other_number(
    answer: str, golds: list[str], agreed: bool
) -> None:
    assert agrees(answer, golds) is agreed


@pytest.mark.parametrize(
    ("answer", "value", "found"),
    [
        ("It is the silver key, I think.", "a silver key", True),
        ("In 1904.", "1904", True),
        ("Parisian", "Paris", False),
        ("van der Gogh", "van Gogh", False),
        ("", "Paris", False),
        ("the", "a", False),
    ],
)
def test_an_answer_mentions_a_value_in_whole_words(answer: str, value: str, found: bool) -> None:
    assert mentions(answer, value) is found
