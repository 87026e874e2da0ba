import pytest

from hybridqa.eval.datasets.labels import question_type, read_labels


@pytest.mark.parametrize(
    ("question", "kind"),
    [
        ("Who's there?", "who"),
        ("To whom does it belong?", "who"),
        ("In what year was it?", "what"),
        ("When is it?", "when"),
        ("From where?", "where"),
        ("Tell me why it fell.", "why"),
        ("How many weeks are there?", "how many"),
        ("For how much?", "how many"),
        ("How does it work?", "how"),
        ("Which of them?", "which"),
        ("Is it known who did it?", "yes-no"),
        ("And can't it fly?", "yes-no"),
        ("I work there, which is nice. How many days do I get?", "how many"),
        ("What do I do with the e.g. seal? Please.", "what"),
        ("Name a river.", "other"),
        ("Whatever, island.", "other"),
    ],
)
def test_questions_are_told_by_their_words(question: str, kind: str) -> None:
    assert question_type(question) == kind


def test_the_datas_word_counts_and_only_short_values_are_labels() -> None:
    stated = {"kind": "date", "year": 1987, "hard": False, "note": "x" * 61, "blank": " ", "l": [1]}

    labels = read_labels("Who?", {**stated, "citation_needed": False}, "here")

    assert labels == {
        "question_type": "date",
        "year": "1987",
        "hard": "no",
        "citation_need": "not needed",
    }
