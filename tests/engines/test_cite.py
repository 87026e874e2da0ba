import pytest

from hybridqa.engines.cite import cite_document, cite_passage, find_support, within
from hybridqa.types import Chunk, Citation, Hit

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
    citation = cite_passage(WHOLE[1], 5, 20)

    assert (citation.start, citation.end) == (45, 60)
    assert_exact(citation)
    assert (citation.score, citation.verified) == (1.0, "verbatim")


def test_a_document_is_cited_as_given() -> None:
    assert_exact(cite_document("manual.md", TEXT[9:20], 9, 20))


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
    citation = cite_document("manual.md", TEXT[38:44], 38, 44)

    assert within(citation, WHOLE)
    assert within(citation, WHOLE[:1])
    assert not within(citation, [hit(44, 60)])
    assert not within(citation, [hit(0, len(TEXT), id="other.md")])
