"""Quotations that are found: what the wrapped internalizer and generator add."""

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest

from hybridqa.internalize.locating import LocatingGenerator, LocatingInternalizer, relevance_of
from hybridqa.internalize.locator import TorchLocator
from hybridqa.models.generator import ABSTENTION
from hybridqa.protocols import Expert, Judge, Judgement, Look, Prompt, Relevance, Round
from hybridqa.testing import FakeGenerator, FakeInternalizer, tiny_locator
from hybridqa.types import Chunk, Document

TEXT = "Tea is at four. The lamp weighs a lot."
ANY = Round(odds=1.0, nothing=-100.0)
"""Whatever is likeliest."""
DOCUMENT = Document(id="d", text=TEXT, title="D", source="d.md")
CHUNK = Chunk(
    document_id="d", content_hash=DOCUMENT.content_hash, start=0, end=len(TEXT), text=TEXT
)


@pytest.fixture(scope="module")
def locator() -> TorchLocator:
    return tiny_locator()


@pytest.fixture
def generator(locator: TorchLocator) -> LocatingGenerator:
    return LocatingGenerator(FakeGenerator(lambda question, texts: "four"), locator)


def test_adapters_get_places(locator: TorchLocator) -> None:
    plain = FakeInternalizer("model")

    made = LocatingInternalizer(plain, locator).internalize(DOCUMENT, [CHUNK])

    former = plain.internalize(DOCUMENT, [CHUNK])
    assert made.adapter.places is not None
    assert made.adapter.places.locator == locator.fingerprint
    assert made.adapter.id != former.adapter.id
    assert made.adapter.layers.keys() == former.adapter.layers.keys()
    assert LocatingInternalizer(plain, locator).name == plain.name
    assert LocatingInternalizer(plain, locator).fingerprint != plain.fingerprint


def test_what_can_be_found_is_found_and_the_rest_is_generated(
    locator: TorchLocator, generator: LocatingGenerator
) -> None:
    places = locator.keep([CHUNK])
    plain = Prompt(question="When is tea?")
    quoting = Prompt(question="When is tea?", quote_from=(TEXT,), rounds=(ANY,), places=(places,))

    before, found, after = generator.generate([plain, quoting, plain])

    assert (before.text, after.text) == ("four", "four")
    (all_places,) = locator.locate([Look("When is tea?", places, 8)])
    place = all_places[0]
    assert found.span == (0, place.start, place.end)
    assert found.text == TEXT[place.start : place.end]
    weight = sum(each.odds for each in all_places)
    assert found.confidence == pytest.approx(place.odds / weight, rel=1e-3)
    assert (found.prompt_tokens, found.token_ids, found.abstained) == (0, (), False)
    assert list(generator.stream(quoting)) == [found.text]
    assert "".join(generator.stream(plain)) == "four"


def test_where_none_is_found_something_else_is_asked(locator: TorchLocator) -> None:
    model = Judging()
    words = Prompt(question="In your own words?")
    judges = [Judge(prompt=READING, weight=0.0)]
    none = Round(odds=1.0, nothing=8.0, judges=judges)
    told = Relevance(texts=(TEXT,), odds=0.0, logit=0.0, least=0.0)  # likely by a half
    found, silent, asked = (
        replace(asking(each), instead=replace(words, relevance=replace(told, least=least)))
        for each, least in ((ANY, 1.0), (none, 0.6), (none, 0.4))
    )

    wrapped = LocatingGenerator(model, locator)
    made = wrapped.generate([found, silent, asked])

    assert [each.located for each in made] == [True, True, False]
    assert [each.abstained for each in made] == [False, True, False]
    assert made[2].text == "four"
    assert [each.relevance for each in made] == [None, 0.5, 0.5]
    assert [prompt.question for prompt in model.prompts] == [words.question]
    assert [each.prompt_tokens for each in made] == [0, 10, 11]
    assert "".join(wrapped.stream(asked)) == "four"
    assert "".join(wrapped.stream(silent)) == ""


def test_where_nothing_is_kept_that_it_knows_the_model_words_it(
    locator: TorchLocator, generator: LocatingGenerator
) -> None:
    places = replace(locator.keep([CHUNK]), locator="another")
    quoting = Prompt(question="When?", quote_from=(TEXT,), rounds=(ANY,), places=(places,))
    worn = Prompt(question="When?", relevance=bearing(locator, 1.0, -100.0))

    asked, none = generator.generate(
        [
            replace(quoting, instead=Prompt(question="When?")),
            replace(quoting, instead=worn),
        ]
    )

    assert (asked.text, asked.located) == ("four", False)
    assert (none.text, none.abstained, none.relevance) == ("", True, pytest.approx(0.0))


def bearing(locator: TorchLocator, least: float, logit: float = 0.0) -> Relevance:
    return Relevance(texts=[locator.keep([CHUNK])], odds=1.0, logit=logit, least=least)


def test_what_is_worn_is_asked_where_it_bears_on_the_question(
    locator: TorchLocator, generator: LocatingGenerator
) -> None:
    plain = Prompt(question="When is tea?")
    (place,) = locator.locate([Look("When is tea?", TEXT)])[0]
    likely = relevance_of(bearing(locator, 0.5, 0.3), [[place]])
    assert likely == pytest.approx(1 / (1 + math.exp(-0.3) / place.odds))
    open_, shut = (
        replace(plain, relevance=bearing(locator, likely + more, 0.3)) for more in (-0.01, 0.01)
    )

    asked, none, again = generator.generate([open_, shut, plain])

    assert (asked.text, again.text) == ("four", "four")
    assert (none.text, none.abstained, none.located, none.span) == ("", True, True, None)
    assert none.confidence == pytest.approx(1 - likely)
    assert [asked.relevance, none.relevance] == pytest.approx([likely, likely])
    assert again.relevance is None
    assert "".join(generator.stream(open_)) == "four"
    assert "".join(generator.stream(shut)) == ""


def test_an_expert_has_a_say_where_what_it_wears_bears_on_the_question(
    locator: TorchLocator,
) -> None:
    inner = FakeGenerator(lambda question, texts: "four")
    kept, dropped = (
        Expert(prompt=Prompt(question="When?", relevance=bearing(locator, least)), weight=0.1)
        for least in (0.0, 1.0)
    )
    prompt = Prompt(question="When?", passages=(TEXT,), pool=(dropped, kept))

    (made,) = LocatingGenerator(inner, locator).generate([prompt])

    (asked,) = inner.prompts
    assert list(asked.pool) == [kept]
    assert made.text == "four"


def test_what_another_locator_kept_tells_nothing(
    locator: TorchLocator, generator: LocatingGenerator
) -> None:
    places = replace(locator.keep([CHUNK]), locator="another")
    relevance = Relevance(texts=(places,), odds=1.0, logit=-100.0, least=1.0)

    (made,) = generator.generate([Prompt(question="When?", relevance=relevance)])

    assert made.text == "four"


def test_a_passage_that_another_locator_kept_is_looked_at_itself(
    locator: TorchLocator, generator: LocatingGenerator
) -> None:
    foreign = replace(locator.keep([CHUNK]), locator="another")
    prompt = Prompt(question="When is tea?", passages=(TEXT,))

    told = [
        replace(prompt, relevance=Relevance(texts=(text,), odds=1.0, logit=0.0, least=0.0))
        for text in (TEXT, foreign)
    ]
    itself, kept = generator.generate(told)

    assert itself.relevance is not None
    assert kept.relevance == pytest.approx(itself.relevance, rel=1e-4)


def test_an_empty_text_bears_on_nothing(locator: TorchLocator) -> None:
    assert relevance_of(bearing(locator, 0.5, 100.0), [[]]) == 0.0


def test_of_several_texts_the_likeliest_counts(
    locator: TorchLocator, generator: LocatingGenerator
) -> None:
    other = "The weather was fine."
    looks = [Look("When is tea?", text, 3) for text in (TEXT, other)]
    best = max(places[0].log_odds for places in locator.locate(looks))
    told = Relevance(texts=(other, locator.keep([CHUNK])), odds=0.5, logit=0.2, least=0.0)

    (made,) = generator.generate([Prompt(question="When is tea?", relevance=told)])

    assert made.relevance == pytest.approx(1 / (1 + math.exp(-0.5 * best - 0.2)), rel=1e-3)


class Judging(FakeGenerator):
    """Finds likely what it is told to, and remembers what it was asked to judge."""

    def __init__(self, **likely: float) -> None:
        super().__init__(lambda question, texts: "four")
        self.likely = likely
        self.judged: list[tuple[str, tuple[str, ...]]] = []
        self.read: list[tuple[str, ...]] = []

    def judge(self, prompts: Sequence[Prompt], answers: Sequence[Sequence[str]]) -> list[Judgement]:
        self.read += [tuple(prompt.passages) for prompt in prompts]
        self.judged += [(p.question, tuple(a)) for p, a in zip(prompts, answers, strict=True)]
        return [
            Judgement([self.likely.get(" ".join(text.split()), -50.0) for text in each], 10)
            for each in answers
        ]


PASSAGES = (TEXT, "The kettle is in the cellar, by the stairs.")
READING = Prompt(question="judge", passages=PASSAGES)


def asking(*rounds: Round) -> Prompt:
    return Prompt(question="When?", passages=PASSAGES, quote_from=PASSAGES, rounds=rounds)


def places_of(locator: TorchLocator) -> list[list[str]]:
    return [
        [text[p.start : p.end] for p in locator.locate([Look("When?", text, 8)])[0]]
        for text in PASSAGES
    ]


def test_the_likeliest_of_all_texts_is_found(
    locator: TorchLocator, generator: LocatingGenerator
) -> None:
    (made,) = generator.generate([asking(ANY)])

    found = [locator.locate([Look("When?", text)])[0][0] for text in PASSAGES]
    best = max(range(2), key=lambda n: found[n].odds)
    assert made.located
    assert made.span == (best, found[best].start, found[best].end)
    assert made.text == PASSAGES[best][made.span[1] : made.span[2]]
    assert generator.generate([replace(asking(ANY), rounds=())])[0].text == "four"


def test_judges_choose_between_what_is_found(locator: TorchLocator) -> None:
    first, second = places_of(locator)
    wanted = next(text for text in second if [*first, *second].count(text) == 1)
    model = Judging(**{" ".join(wanted.split()): -1.0})
    judged = Round(odds=0.0, nothing=0.0, judges=[Judge(prompt=READING, weight=1.0)])

    (made,) = LocatingGenerator(model, locator).generate([asking(judged)])

    assert made.text == wanted
    assert made.span is not None
    assert made.span[0] == 1
    assert (made.located, made.token_ids, made.prompt_tokens) == (True, (), 10)
    assert made.confidence == pytest.approx(1.0)
    ((question, heard),) = model.judged
    assert question == "judge"
    assert set(heard) == {*first, *second, ABSTENTION}
    assert len(heard) == len(set(heard))


def test_a_judge_of_one_text_says_nothing_of_others(locator: TorchLocator) -> None:
    first, second = places_of(locator)
    model = Judging(**{first[2]: -3.0, second[1]: -1.0})
    only = Judge(prompt=READING, weight=1.0, texts=frozenset({0}))
    (made,) = LocatingGenerator(model, locator).generate(
        [asking(Round(odds=0.0, nothing=-2.0, judges=[only]))]
    )

    assert model.judged == [("judge", tuple(dict.fromkeys(first)))]
    assert made.span is not None
    assert made.span[0] == 1  # 0 by everything that was not judged: more than -3


def test_that_the_texts_do_not_say_is_an_answer_too(locator: TorchLocator) -> None:
    model = Judging(**{ABSTENTION: -1.0})
    judged = Round(odds=0.0, nothing=0.0, judges=[Judge(prompt=READING, weight=1.0)])

    (by_judge,) = LocatingGenerator(model, locator).generate([asking(judged)])
    (by_locator,) = LocatingGenerator(model, locator).generate(
        [asking(Round(odds=1.0, nothing=100.0))]
    )

    for made in (by_judge, by_locator):
        assert (made.abstained, made.located, made.text, made.span) == (True, True, "", None)
        assert made.confidence == pytest.approx(1.0)


def test_a_later_round_is_asked_only_where_a_former_is_not_sure(locator: TorchLocator) -> None:
    first, _ = places_of(locator)
    model = Judging(**{" ".join(first[4].split()): -1.0})
    last = Round(odds=0.0, nothing=0.0, judges=[Judge(prompt=READING, weight=1.0)])
    sure, unsure = asking(ANY, last), asking(replace(ANY, sure=1.0), last)
    nothing = asking(Round(odds=1.0, nothing=100.0, sure=0.1), last)

    made = LocatingGenerator(model, locator).generate([sure, unsure, nothing])

    assert [each.prompt_tokens for each in made] == [0, 10, 10]
    assert [each.text for each in made[1:]] == [first[4], first[4]]
    assert len(model.judged) == 2


def test_what_is_unlikely_is_neither_judged_nor_read(locator: TorchLocator) -> None:
    looks = [locator.locate([Look("When?", text, 8)])[0] for text in PASSAGES]
    odds = [max(place.odds for place in places) for places in looks]
    best = odds.index(max(odds))
    last = Round(odds=0.0, nothing=0.0, judges=[Judge(prompt=READING, weight=1.0)])

    def heard(keep: float) -> tuple[tuple[str, ...], set[str]]:
        model = Judging()
        asked = asking(replace(ANY, sure=2.0, keep=keep), last)
        LocatingGenerator(model, locator).generate([asked])
        return model.read[0], set(model.judged[0][1])

    assert heard(0.0) == (
        PASSAGES,
        {t for texts in places_of(locator) for t in texts} | {ABSTENTION},
    )
    likely = {
        PASSAGES[n][place.start : place.end]
        for n, places in enumerate(looks)
        for place in places
        if place.odds >= (min(odds) + max(odds)) / 2
    }
    assert heard((min(odds) / max(odds) + 1) / 2) == ((PASSAGES[best],), likely | {ABSTENTION})


def test_where_nothing_can_be_found_the_model_answers(
    locator: TorchLocator, generator: LocatingGenerator
) -> None:
    nothing = Prompt(
        question="When?", quote_from=(TEXT,), rounds=(ANY,), places=(locator.keep([]),)
    )
    foreign = Prompt(
        question="When?",
        quote_from=(TEXT,),
        rounds=(ANY,),
        places=(
            LocatingInternalizer(FakeInternalizer("model"), tiny_locator())
            .internalize(DOCUMENT, [CHUNK])
            .adapter.places,
        ),
    )
    locator_of_others = TorchLocator(locator.network, locator._tokenizer, "cd" * 32, locator._lock)
    others = LocatingGenerator(FakeGenerator(lambda question, texts: "four"), locator_of_others)

    assert generator.generate([nothing])[0].text == "four"
    assert others.generate([foreign])[0].text == "four"


def test_a_passage_of_which_something_was_kept_is_not_read(
    locator: TorchLocator, generator: LocatingGenerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    passages = (TEXT, "The kettle is in the cellar, by the stairs.")
    asked = Prompt(question="When?", passages=passages, quote_from=passages, rounds=(ANY,))
    (read,) = generator.generate([asked])
    kept = tuple(locator.keep([replace(CHUNK, text=text, end=len(text))]) for text in passages)
    texts: list[object] = []
    pieces = locator._pieces
    monkeypatch.setattr(locator, "_pieces", lambda text: texts.append(text) or pieces(text))

    for places, unread in (((kept[0],), passages[1:]), (kept, ()), ((None, kept[1]), (TEXT,))):
        texts.clear()
        (made,) = generator.generate([replace(asked, places=places)])
        assert texts == list(unread)
        assert (made.text, made.span) == (read.text, read.span)
        assert made.confidence == pytest.approx(read.confidence)


def test_what_the_model_does_not_read_is_not_read_to_locate(generator: LocatingGenerator) -> None:
    asked = Prompt(question="When?", quote_from=(TEXT,), rounds=(ANY,))

    assert not generator.generate([asked])[0].located
