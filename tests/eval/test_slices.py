import pytest

from hybridqa.eval.slices import answer_type


@pytest.mark.parametrize(
    ("gold", "kind"),
    [
        ("27 days", "number"),
        ("twenty-five", "number"),
        ("€ 1,250", "number"),
        ("10:15 to 14:45", "date or time"),
        ("Wednesdays", "date or time"),
        ("4 March 2019", "date or time"),
        ("2026-02-01", "date or time"),
        ("1987", "date or time"),
        ("from 1987 to 1990", "date or time"),
        ("9 a.m.", "date or time"),
        ("1500 W", "number"),
        ("it may leak", "phrase"),
        ("2400 W", "number"),
        ("Ilse Marrow", "name"),
        ("the Treaty of Versailles", "name"),
        ("the left lever", "phrase"),
        ("You hold the lever until the lamp shows a green light.", "sentence"),
    ],
)
def test_the_type_of_an_answer_shows(gold: str, kind: str) -> None:
    assert answer_type([gold, "another"]) == kind


def test_what_no_document_says_has_no_type() -> None:
    assert answer_type([]) == "none"
