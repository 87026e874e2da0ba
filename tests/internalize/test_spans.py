import random

import pytest

from hybridqa.internalize.spans import candidate_spans

TEXT = (
    "The Mistrel pump was built in Korvhaven in 1987. It weighs 48 kilograms.\n\n"
    "Anna Brandt of Delft designed its bronze impeller. A service costs € 120 since 12 May 2024."
)


def found_in(text: str, seed: int = 0) -> list[str]:
    return [text[a:b] for a, b in candidate_spans(text, random.Random(seed))]


def test_spans_are_numbers_names_and_phrases() -> None:
    found = set(found_in(TEXT))

    assert {"The Mistrel", "Korvhaven", "Anna Brandt of Delft", "bronze impeller"} <= found
    assert {"48 kilograms", "12 May 2024", "1987"} <= found


def test_no_span_comes_twice_or_has_blank_edges() -> None:
    found = found_in(TEXT * 2)

    assert len(found) == len({span.casefold() for span in found})
    assert not any(span != span.strip() for span in found)


def test_the_first_spans_mix_the_kinds() -> None:
    first = found_in(TEXT)[:3]

    assert any(c.isdigit() for span in first for c in span)
    assert any(span[0].isupper() for span in first)


def test_the_seed_sets_the_order() -> None:
    assert found_in(TEXT) == found_in(TEXT)
    assert found_in(TEXT) != found_in(TEXT, seed=1)
    assert sorted(found_in(TEXT)) == sorted(found_in(TEXT, seed=1))


def test_a_word_that_only_begins_its_sentence_is_no_name() -> None:
    assert "Cat" not in found_in("Cat on Mondays.\n- Cat at 10:15 to 14:45 for 40 %.")


def test_scripts_without_spaces_have_spans_between_their_punctuation() -> None:
    assert "泵的重量是四十八公斤" in found_in("米斯特雷尔泵。泵的重量是四十八公斤。")


@pytest.mark.parametrize("text", ["", " \n ", "?!", "a b c", "\ud800", "的" * 500])
def test_texts_without_good_spans_have_none(text: str) -> None:
    assert found_in(text) == []
