"""Whatever is generated under the constraint is a literal span of whole words."""

import random
import time
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import pre_tokenizers

from hybridqa.models.quote import Evidence, QuoteState, Vocabulary

GAPS = [" ", "  ", "\n", "\t\n ", "\u00a0", "\x00"]
WORDS = ["the", "of", "day", "days", "Wed", "nes", "é", "ü", "日本", "🙂", "'s", ". ", "12", "a"]
ABSTENTION = "The text does not say."


def byte_level() -> Vocabulary:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    split = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str
    words = [split(space + word)[0][0] for word in WORDS for space in ("", " ")]
    return vocabulary(["<|end|>", *alphabet, *words])


def sentence_piece() -> Vocabulary:
    raw = [f"<0x{byte:02X}>" for byte in range(256)]
    letters = [chr(code) for code in range(33, 127)]
    words = [space + word.replace(" ", "▁") for word in WORDS for space in ("", "▁")]
    return vocabulary(["<|end|>", *raw, "▁", *letters, *words])


def vocabulary(tokens: Sequence[str]) -> Vocabulary:
    ids = {token: n for n, token in enumerate(dict.fromkeys(tokens))}
    tokenizer = SimpleNamespace(get_vocab=lambda: ids, all_special_ids=[0])
    return Vocabulary.of(cast(Any, tokenizer))


VOCABULARIES = {"bytes": byte_level(), "pieces": sentence_piece()}
TEXT = st.lists(
    st.one_of(
        st.sampled_from(
            [*WORDS, " ", "  ", "\n", "\t\n ", "\u00a0", "\x00", "e\u0301", "हिन्दी", "x"]
        ),
        st.text(max_size=4),
    ),
    max_size=12,
).map("".join)
TEXTS = st.lists(TEXT, min_size=1, max_size=3)


def normalized(text: str) -> str:
    return " ".join(text.encode(errors="replace").decode().replace("\x00", " ").split())


def breaks_a_word(left: str, right: str) -> bool:
    return left.isascii() and right.isascii() and left.isalnum() and right.isalnum()


def walk(evidence: Evidence, rng: random.Random) -> tuple[QuoteState, list[int]]:
    """Take random allowed tokens until the answer may end and a coin says so."""
    state, taken = evidence.start, []
    while allowed := list(evidence.allowed(state)):
        if evidence.may_end(state) and rng.random() < 0.3:
            break
        token = rng.choice(allowed)
        state = evidence.advance(state, token)
        taken.append(token)
    return state, taken


@given(texts=TEXTS, name=st.sampled_from(sorted(VOCABULARIES)), seed=st.integers(0, 99))
def test_every_answer_is_a_literal_span_of_whole_words(
    texts: list[str], name: str, seed: int
) -> None:
    vocabulary = VOCABULARIES[name]
    evidence = Evidence(texts, vocabulary)
    state, taken = walk(evidence, random.Random(seed))
    generated = "".join(vocabulary.text[token] for token in taken).encode("latin-1").decode()

    span = evidence.span(state)

    assert evidence.text(state) == generated.strip(" ")
    if not taken:
        assert span is None
        assert all(not text.strip().strip("\x00") for text in texts)
        return
    assert evidence.may_end(state)
    assert span is not None
    index, start, end = span
    assert normalized(texts[index][start:end]) == normalized(generated)
    assert texts[index][start:end] == texts[index][start:end].strip()
    assert not (start and breaks_a_word(*texts[index][start - 1 : start + 1]))
    assert not (end < len(texts[index]) and breaks_a_word(*texts[index][end - 1 : end + 1]))


@given(texts=TEXTS, name=st.sampled_from(sorted(VOCABULARIES)), data=st.data())
def test_every_span_of_words_can_be_said(texts: list[str], name: str, data: st.DataObject) -> None:
    vocabulary = VOCABULARIES[name]
    words = normalized(data.draw(st.sampled_from(texts))).replace("\x00", " ").split(" ")
    first = data.draw(st.integers(0, len(words) - 1))
    wanted = words[first]  # between two spaces: surely whole words
    evidence = Evidence(texts, vocabulary)

    state = evidence.start
    for byte in wanted.encode().decode("latin-1"):
        state = evidence.advance(state, vocabulary.ids[byte])

    if wanted:
        assert evidence.may_end(state)
        assert evidence.text(state) == wanted


def said(evidence: Evidence, text: str) -> QuoteState:
    state = evidence.start
    for byte in text.encode().decode("latin-1"):
        state = evidence.advance(state, VOCABULARIES["bytes"].ids[byte])
    return state


def evidence(*texts: str) -> Evidence:
    return Evidence(texts, VOCABULARIES["bytes"], whole=(ABSTENTION,))


@pytest.mark.parametrize("text", ["\u0591", "tea \u0301\u0302 four"])
def test_a_mark_that_belongs_to_no_character_is_a_word(text: str) -> None:
    mark = text.split(" ")[-2 if " " in text else 0]

    state = said(evidence(text), mark)

    assert evidence(text).may_end(state)
    assert evidence(text).text(state) == mark


def test_offsets_are_those_of_the_original() -> None:
    text = "Für  den\n\tMüller:\r\n日本 zählt"

    state = said(evidence("nothing", text), "den Müller: 日")

    assert evidence("nothing", text).span(state) == (1, 5, text.index("本"))


def test_the_first_place_counts() -> None:
    found = evidence("a day", "b day or day")

    assert found.span(said(found, "day")) == (0, 2, 5)


@pytest.mark.parametrize("text", ["no words were said", "nonsense, no"])
def test_an_answer_may_end_where_some_place_ends_a_word(text: str) -> None:
    assert evidence(text).may_end(said(evidence(text), "no"))


def test_parts_of_words_are_no_answers() -> None:
    found = evidence("nonsense")

    assert not found.may_end(said(found, "non"))
    with pytest.raises(KeyError):
        said(found, "sense")


def test_accents_belong_to_their_letter() -> None:
    found = evidence("cafe\u0301 olé")

    assert not found.may_end(said(found, "cafe"))
    assert found.may_end(said(found, "cafe\u0301"))


def test_the_abstention_is_said_whole_or_not_at_all() -> None:
    found = evidence("a text")

    state = said(found, ABSTENTION)

    assert found.may_end(state)
    assert found.text(state) == ABSTENTION
    assert found.span(state) is None
    assert not found.may_end(said(found, "The text"))
    with pytest.raises(KeyError):
        said(found, "does not say.")


def test_nothing_is_said_across_two_texts() -> None:
    with pytest.raises(KeyError):
        said(evidence("one", "two"), "one two")


def test_special_tokens_are_never_allowed() -> None:
    assert 0 not in VOCABULARIES["bytes"].text
    assert 0 not in VOCABULARIES["pieces"].text


def test_a_piece_is_preferred_to_the_byte_that_reads_the_same() -> None:
    for order in (["<0x41>", "A"], ["A", "<0x41>"]):
        found = vocabulary(["<|end|>", *order, "▁"])
        assert found.ids["A"] == 1 + order.index("A")


def test_long_documents_are_indexed_at_once() -> None:
    text = "Every full-time employee has 27 days of paid leave a year. " * 2000
    began = time.perf_counter()

    evidence(text)

    assert time.perf_counter() - began < 10  # some 200 ms
