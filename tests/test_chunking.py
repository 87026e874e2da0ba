import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers

from hybridqa.chunking import Chunker
from hybridqa.errors import ConfigError
from hybridqa.types import Document


def words_tokenizer() -> Tokenizer:
    """Return one whose tokens are words and punctuation marks."""
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return tokenizer


def bytes_tokenizer() -> Tokenizer:
    """Return a byte-level one with a few merges, white space included, as of language models."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("Ġ", "a"), ("a", "a"), ("Ġ", "Ġ"), ("aa", "aa"), ("Ċ", "Ċ")]
    vocabulary = [*alphabet, *("".join(pair) for pair in merges)]
    tokenizer = Tokenizer(models.BPE({token: i for i, token in enumerate(vocabulary)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return tokenizer


TOKENIZERS = {"words": words_tokenizer(), "bytes": bytes_tokenizer()}
CHUNKERS = {(name, n): Chunker(TOKENIZERS[name], n) for name in TOKENIZERS for n in (8, 40)}

MARKUP = [
    *("A sentence. ", "# Heading\n", "\n\n", "- item\n", "1. One\n", "Title\n=====\n"),
    *("| a | b |\n", "   \t", "\r\n", "a" * 60, "é\u0301" * 9, "👩\u200d👧", "\u3002"),
]
MESSY = st.lists(st.one_of(st.text(max_size=30), st.sampled_from(MARKUP)), max_size=25).map("".join)


def document(text: str) -> Document:
    return Document(id="d", text=text, title="", source="")


def pieces(text: str, max_tokens: int, tokenizer: str = "words") -> list[str]:
    chunks = Chunker(TOKENIZERS[tokenizer], max_tokens).chunk(document(text))
    return [chunk.text for chunk in chunks]


@given(text=MESSY, key=st.sampled_from(sorted(CHUNKERS)))
def test_chunks_partition_the_text_within_the_limit(text: str, key: tuple[str, int]) -> None:
    chunker = CHUNKERS[key]
    whole = document(text)

    chunks = chunker.chunk(whole)

    position = 0
    for chunk in chunks:
        assert text[position : chunk.start].strip() == ""
        assert whole.text[chunk.start : chunk.end] == chunk.text == chunk.text.strip() != ""
        assert chunker.count(chunk.text) <= key[1]
        assert (chunk.document_id, chunk.content_hash) == (whole.id, whole.content_hash)
        position = chunk.end
    assert text[position:].strip() == ""


@pytest.mark.parametrize("text", ["", " \n\t\n "])
def test_blank_texts_have_no_chunks(text: str) -> None:
    assert pieces(text, 8) == []


def test_a_text_that_fits_is_one_chunk() -> None:
    assert pieces("\n# Title\n\nOne. Two.\n", 8) == ["# Title\n\nOne. Two."]


@pytest.mark.parametrize("total", range(41, 400, 7))
def test_lengths_are_balanced(total: int) -> None:
    text = " ".join(["word"] * total)

    lengths = [len(piece.split()) for piece in pieces(text, 40)]

    assert len(lengths) == -(-total // 40)
    assert max(lengths) - min(lengths) <= 1


def test_sentences_stay_whole() -> None:
    sentences = [f"This is sentence number {i} of e.g. Mr. Smith." for i in range(40)]

    found = pieces(" ".join(sentences), 40)

    assert len(found) > 10
    assert all(piece.startswith("This") and piece.endswith("Smith.") for piece in found)


def test_lines_and_items_stay_whole() -> None:
    items = "\n".join(f"- item {i} without an end mark" for i in range(40))

    assert all(piece.startswith("- item") for piece in pieces(items, 40))


def test_wrapped_lines_end_no_sentence() -> None:
    text = "\n".join(["These lines are wrapped in\nthe middle of the sentence."] * 20)

    assert all(piece.endswith(".") for piece in pieces(text, 40))


@pytest.mark.parametrize(
    "heading", ["## Heading {}\n", "Heading {}\n==========\n", "\n## Above\n\n### Heading {}\n\n"]
)
def test_headings_stay_with_the_text_below(heading: str) -> None:
    text = "".join(
        "\n" + heading.format(i) + "It has a few words of text. " * (3 + i % 5) for i in range(30)
    )

    found = pieces(text, 60)

    assert len(found) > 10
    assert all(piece.endswith("text.") for piece in found)
    starts = sum(piece.startswith(("#", "Heading")) for piece in found)
    assert starts > len(found) / 2


def test_chinese_sentences_stay_whole() -> None:
    assert all(
        piece.endswith("\u3002") for piece in pieces("这是一个句子\u3002" * 100, 60, "bytes")
    )


def test_accents_and_emoji_stay_whole() -> None:
    family = "👩\u200d👧"

    for text in (family * 50, "e\u0301" * 200):
        assert all(piece[0] in "👩e" for piece in pieces(text, 40, "bytes"))


def test_truncation_and_padding_of_the_tokenizer_are_ignored() -> None:
    tokenizer = words_tokenizer()
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=64)

    chunks = Chunker(tokenizer, 8).chunk(document("word " * 24))

    assert [len(chunk.text.split()) for chunk in chunks] == [8, 8, 8]
    assert len(tokenizer.encode("word").ids) == 64  # the caller's is as it was


def test_a_limit_below_one_is_refused() -> None:
    with pytest.raises(ConfigError, match="got 0"):
        Chunker(words_tokenizer(), 0)


@pytest.mark.parametrize(
    "text",
    [
        "x" * 10_000,
        "| " + " | ".join(f"cell {i}" for i in range(5_000)) + " |",
        "".join(random.Random(0).choices("abcdefghij", k=100_000)),
        "word" + " " * 100_000 + "word",
        "# h\n" * 10_000,
        "a\u0301" + "\u0301" * 10_000,
        "=" * 50_000 + " " * 50_000 + "x",
        "\n".join("one line of words. " * 5 for _ in range(3_000)),
    ],
    ids=["word", "row", "noise", "spaces", "headings", "accents", "rule", "prose"],
)
def test_no_text_takes_long(text: str) -> None:
    chunker = CHUNKERS["bytes", 40]
    begin = time.perf_counter()

    chunks = chunker.chunk(document(text))

    assert time.perf_counter() - begin < 5  # some 100 ms; minutes if work grew with the square
    assert "".join("".join(chunk.text.split()) for chunk in chunks) == "".join(text.split())
    assert all(chunker.count(chunk.text) <= 40 for chunk in chunks)
