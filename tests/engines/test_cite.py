import pytest

from hybridqa.engines.cite import cite_answer, cite_chunk, find_support, told_of_wording, within
from hybridqa.protocols import Generation
from hybridqa.types import Chunk, Citation, Hit, Style

TEXT = (
    "Preface.\nThe kettle holds 1.7 litres. It boils them in four\nminutes and weighs 980 grams. "
    "Descale it every six weeks with citric acid; never use vinegar."
)


def hit(start: int, end: int, text: str = TEXT, id: str = "manual.md") -> Hit:
    chunk = Chunk(document_id=id, content_hash="h", start=start, end=end, text=text[start:end])
    return Hit(chunk=chunk, score=1.0, similarity=0.5)


WHOLE = [hit(0, 40), hit(40, len(TEXT))]


def assert_exact(citation: Citation | None, text: str = TEXT) -> None:
    assert citation is not None
    assert citation.quote == text[citation.start : citation.end]


def test_a_passage_is_cited_by_its_place_in_the_document() -> None:
    citation = cite_chunk(WHOLE[1].chunk, 5, 20)

    assert (citation.start, citation.end) == (45, 60)
    assert_exact(citation)
    assert (citation.score, citation.verified) == (1.0, "verbatim")


def made(text: str, span: tuple[int, int, int] | None = None) -> Generation:
    return Generation(
        text=text,
        token_ids=(),
        logprobs=(),
        span=span,
        abstained=not text,
        prompt_tokens=0,
        first_token_s=0.0,
        seconds=0.0,
    )


def test_a_quotation_is_cited_where_it_stands_and_other_words_where_they_are_supported() -> None:
    sources = [hit.chunk for hit in WHOLE]
    quoted = cite_answer(made(TEXT[45:49], (1, 5, 9)), sources, ())

    assert_exact(quoted)
    assert quoted is not None
    assert quoted.start == 45
    assert_exact(cite_answer(made("980 grams"), (), WHOLE))
    assert cite_answer(made("980 grams"), sources, ()) is None
    assert cite_answer(made(""), sources, WHOLE) is None


def test_own_words_are_told_where_a_quotation_was_looked_for() -> None:
    words, quoted = made("980 grams"), made("980", (0, 1, 4))

    assert "own words" in told_of_wording(words, Style.EITHER)[0]
    assert told_of_wording(quoted, Style.EITHER) == ()
    assert told_of_wording(words, Style.FREE) == ()


@pytest.mark.parametrize(
    "answer", ["980 grams", "980  GRAMS", "in four minutes", "1.7 litres", "citric acid;"]
)
def test_words_that_stand_there_are_cited_verbatim(answer: str) -> None:
    citation = find_support(answer, WHOLE)

    assert_exact(citation)
    assert citation is not None
    assert citation.verified == "verbatim"
    assert citation.quote.casefold().split() == answer.casefold().split()


def test_a_part_of_a_word_is_not_cited() -> None:
    assert find_support("negar", WHOLE) is None
    assert find_support("98", WHOLE) is None


def test_other_wording_is_cited_by_the_sentence_that_holds_most_of_it() -> None:
    citation = find_support("Descale every six weeks, citric acid", WHOLE)

    assert_exact(citation)
    assert citation is not None
    assert citation.verified == "overlap"
    assert citation.quote.startswith("Descale it")
    assert 0.7 <= citation.score <= 1.0


@pytest.mark.parametrize("answer", ["", "  \n", "...", "?!", "The toaster weighs 2 kg of steel"])
def test_what_nobody_says_has_no_support(answer: str) -> None:
    assert find_support(answer, WHOLE) is None


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ("The monthly fee is 40 dollars", "The monthly fee is 60 dollars."),
        ("Pets are allowed in the office", "Pets are not allowed in the office."),
        ("Pets aren't allowed in the office", "Pets are allowed in the office."),
        ("1", "It costs $1,500.75 a year."),
        ("500", "It costs $1,500.75 a year."),
    ],
)
def test_what_a_sentence_contradicts_has_no_support(answer: str, text: str) -> None:
    assert find_support(answer, [hit(0, len(text), text)]) is None


def test_without_hits_there_is_no_support() -> None:
    assert find_support("980 grams", []) is None


def test_the_best_hit_is_searched_first() -> None:
    other = hit(0, 40, "It also weighs 980 grams or so, they say", id="other.md")

    citation = find_support("980 grams", [other, *WHOLE])

    assert citation is not None
    assert citation.document_id == "other.md"


@pytest.mark.parametrize("text", ["Straße İstanbul 980 grams ß", "ﬁve ﬁsh 🫖🫖 tea 980 grams"])
def test_offsets_hold_where_lower_case_has_another_length(text: str) -> None:
    for answer in ("980 grams", text.split()[0], text.split()[1]):
        assert_exact(find_support(answer, [hit(0, len(text), text)]), text)


def test_within_wants_the_same_document_and_a_common_character() -> None:
    citation = cite_chunk(hit(0, len(TEXT)).chunk, 38, 44)

    assert within(citation, WHOLE)
    assert within(citation, WHOLE[:1])
    assert not within(citation, [hit(44, 60)])
    assert not within(citation, [hit(0, len(TEXT), id="other.md")])
