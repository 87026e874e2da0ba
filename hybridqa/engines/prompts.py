"""What the model is given under each arm: what it reads, wears and may quote."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import zip_longest

from hybridqa.errors import CorruptAdapterError
from hybridqa.internalize.compress import nearest_share, take_shares
from hybridqa.models.places import part
from hybridqa.protocols import Expert, Judge, Prompt, Relevance, Round
from hybridqa.stores.adapters import AdapterStore
from hybridqa.types import Adapter, AdapterRecord, Chunk, Hit, Places, Style

# How places are weighed: fitted by maximum likelihood of the right answer on 200 questions of XQuAD
# and FairytaleQA's validation set, none of those that figures are measured on. Each was asked with
# its passages and, at a twentieth of the weight, with others, where nothing is the right answer.
BY_PLACES = Round(odds=0.60, nothing=-0.35, sure=0.4, keep=0.1)
"""By the locator alone. Where an answer is surer, its passages are not read; of a passage whose
places are all ten times less likely than the best, nothing is read in any case."""
_READ, _READER = Round(odds=0.35, nothing=0.11), 0.17
"""By the reader, too, given the passages."""
_BOTH, _BOTH_READER = Round(odds=0.35, nothing=0.43), 0.17
_BOTH_ADAPTER, _BOTH_BARE = 0.034, -0.022
"""By adapters, too: given none of the passages, less what the bare model thinks likely anyway."""

_SAY = 0.074
"""Of an adapter, beside the reader, in what is written. Chosen on 140 XQuAD questions, of which it
took F1 from 0.532 to 0.585 (0.13: 0.589), and 100 on stories (0.330 to 0.323; 0.13: 0.311). On 160
others of XQuAD it changed nothing, 0.559 and 0.563: it does no harm, and no surely proven good. (An
adapter that the reader itself wears takes 0.1 away.)"""


# When an adapter is worn in free wording: by a logistic regression on half of 120 documents each of
# XQuAD and FairytaleQA, own questions against others' and general ones. `hybridqa eval relevance`
# tells what comes of it: on XQuAD it is worn for 99 % of a document's own questions and 1 % of
# others', on stories for 97 % and 21 %.
PLACE_WEIGHT, SIMILARITY_WEIGHT, _BIAS = 0.63, 15.1, -3.7

ANSWER_WEIGHT, ANSWER_BIAS = 0.41, 0.74
"""How likely one of the passages that are read answers: by a logistic regression on 110 questions
each of XQuAD and FairytaleQA, with the one or two passages that were chosen for them, and with some
of other documents that do not answer. These count a sixth, as fewer questions are asked that the
documents do not answer. `hybridqa eval unanswerable` fits its own, and tells what comes of it."""


def answering(texts: Sequence[Places | str], least: float) -> Relevance | None:
    """Return what tells how likely some passages answer a question; `None` if it has no say.

    Args:
        texts: What is read, or what was kept of it.
        least: Likelihood that one of them does, below which the model is not asked.
    """
    if not texts or not least:
        return None
    return Relevance(texts=texts, odds=ANSWER_WEIGHT, logit=ANSWER_BIAS, least=least)


def bearing(places: Places, similarity: float, least: float) -> Relevance:
    """Return what tells how likely a question bears on a document.

    Args:
        places: Kept of the document, or of the parts that were found.
        similarity: Cosine similarity of the question and the part that is most like it.
        least: Likelihood from which on its adapter is worn, in [0, 1].
    """
    logit = SIMILARITY_WEIGHT * similarity + _BIAS
    return Relevance(texts=(places,), odds=PLACE_WEIGHT, logit=logit, least=least)


@dataclass(frozen=True)
class Worn:
    """A document's adapter, and what was found in the document."""

    record: AdapterRecord
    hits: Sequence[Hit]
    """At least one; the best says which share is worn."""
    min_relevance: float = 0.0
    """Likelihood that the document bears on the question, below which it is not worn in free
    wording; at 0 it always is, and so where nothing is kept that could tell."""

    @property
    def number(self) -> int:
        """Of the share whose span the best hit lies in."""
        chunk = self.hits[0].chunk
        return nearest_share(self.record.shares, chunk.start, chunk.end)

    @property
    def spans(self) -> list[tuple[int, int]]:
        """Where the hits lie in the document."""
        return [(hit.chunk.start, hit.chunk.end) for hit in self.hits]

    @property
    def similarity(self) -> float:
        """Of the question and the hit that is most like it."""
        return max(hit.similarity for hit in self.hits)

    @classmethod
    def by(cls, record: AdapterRecord, hits: Sequence[Hit], min_relevance: float = 0.0) -> Worn:
        """Return an adapter with those of some hits that lie in its document: at least one."""
        own = [hit for hit in hits if hit.chunk.document_id == record.document_id]
        return cls(record, own, min_relevance)


def each_worn(records: Sequence[AdapterRecord | None], hits: Sequence[Hit]) -> list[Worn | None]:
    """Return each adapter with its own hit."""
    return [
        Worn(record, [hit]) if record else None for record, hit in zip(records, hits, strict=True)
    ]


class Prompts:
    """Builds them. Those that wear a document's adapter load it, which takes time."""

    def __init__(
        self,
        adapters: AdapterStore,
        task_adapters: Mapping[str, Adapter],
        reader: Adapter | None,
        max_tokens: int,
        realm: str = "",
    ) -> None:
        """Wire the collaborators; the arguments are those of `Answerer`."""
        self._adapters, self._task_adapters = adapters, task_adapters
        self._reading = (reader,) if reader else ()
        self._max_tokens, self._realm = max_tokens, realm

    def alone(self, question: str) -> Prompt:
        return Prompt(
            question=question,
            adapters=self._reading,
            max_tokens=self._max_tokens,
            realm=self._realm,
        )

    def worn(self, question: str, worn: Worn, style: Style, text: str = "") -> Prompt:
        """Wear a share of an adapter.

        Args:
            question: With nothing to read.
            worn: What of which adapter.
            style: Of the answer.
            text: The document's, to be quoted: all of it where its places are looked at, or else
                what the share was made from.

        Raises:
            CorruptAdapterError: Its files are damaged.
        """
        places = self._places(worn)
        words = self._wearing(question, worn, places)
        if style is Style.FREE:
            return words
        return replace(
            words,
            quote_from=(text if places else text[slice(*worn.record.shares[worn.number])],),
            rounds=(BY_PLACES,) if places else (),
            places=(places,) if places else (),
            relevance=None,
            instead=words if style is Style.EITHER else None,
        )

    def read(
        self,
        question: str,
        passages: Sequence[str],
        style: Style,
        worn: Worn | None = None,
        places: Sequence[Places | None] = (),
        judging: Sequence[Worn | None] = (),
        min_relevance: float = 0.0,
    ) -> Prompt:
        """Read passages, and ask an adapter besides.

        Args:
            question: Stands after the passages.
            passages: Best first.
            style: Of the answer.
            worn: What of which adapter. Worn by a model that reads nothing, and has a say in every
                token. Where what is quoted is located, nothing is written, and it has none.
            places: What was kept of each passage; see `kept`.
            judging: Of each passage, if any: judges what is located in it.
            min_relevance: Likelihood that one of them answers, below which the model is not asked
                for its own words; at 0 it always is.

        Raises:
            CorruptAdapterError: Its files are damaged.
        """
        pool: tuple[Expert, ...] = ()
        if worn:
            pool = (Expert(prompt=self._wearing(question, worn, self._places(worn)), weight=_SAY),)
        written = Prompt(
            question=question,
            passages=passages,
            adapters=self._reading,
            pool=pool,
            relevance=answering(_looked_at(passages, places), min_relevance),
            max_tokens=self._max_tokens,
            realm=self._realm,
        )
        if style is Style.FREE:
            return written
        reading = replace(written, pool=(), relevance=None)
        return replace(
            written,
            quote_from=passages,
            rounds=(BY_PLACES, self._weighed(reading, judging)),
            places=places,
            relevance=None,
            instead=written if style is Style.EITHER else None,
        )

    def _weighed(self, reading: Prompt, judging: Sequence[Worn | None]) -> Round:
        """Return the round in which the reader judges, and any adapters of passages."""
        wearing: dict[tuple[str, ...], tuple[tuple[Adapter, ...], set[int]]] = {}
        for number, each in enumerate(judging):
            with suppress(CorruptAdapterError):  # whose passages the reader judges alone
                adapters = self.adapters(each) if each else ()
                if adapters:
                    key = tuple(adapter.id for adapter in adapters)
                    wearing.setdefault(key, (adapters, set()))[1].add(number)
        if not wearing:
            return replace(_READ, judges=(Judge(prompt=reading, weight=_READER),))
        bare = Prompt(question=reading.question, realm=self._realm)
        judged = frozenset(number for _, numbers in wearing.values() for number in numbers)
        judges = [
            Judge(prompt=reading, weight=_BOTH_READER),
            Judge(prompt=bare, weight=_BOTH_BARE, texts=judged),
        ]
        for adapters, numbers in wearing.values():
            worn = replace(bare, adapters=adapters)
            judges.append(Judge(prompt=worn, weight=_BOTH_ADAPTER, texts=frozenset(numbers)))
        return replace(_BOTH, judges=judges)

    def kept(self, record: AdapterRecord | None, chunk: Chunk) -> Places | None:
        """Return what an adapter of a passage's document keeps of the passage, if anything."""
        if record is None or record.content_hash != chunk.content_hash:
            return None
        try:
            places = self._adapters.load(record).places
        except CorruptAdapterError:  # then the passage is read
            return None
        own = part(places, [(chunk.start, chunk.end)], chunk.start) if places else None
        return own if own and len(own.pieces) else None

    def check(self, question: str, passage: str) -> Prompt:
        """Let the reader judge an answer: nothing is written."""
        return Prompt(
            question=question,
            passages=(passage,),
            adapters=self._reading,
            max_tokens=0,
            realm=self._realm,
        )

    def adapters(self, worn: Worn) -> tuple[Adapter, ...]:
        """Return a share of an adapter, and below it what it was made on.

        Raises:
            CorruptAdapterError: Its files are damaged.
        """
        record = worn.record
        task = self._task_adapters[record.task_adapter_id] if record.task_adapter_id else None
        share = take_shares(self._adapters.load(record), [worn.number], len(record.shares))
        return (task, share) if task else (share,)

    def _wearing(self, question: str, worn: Worn, places: Places | None) -> Prompt:
        """Wear a share, if it bears on the question, with free wording."""
        told = None
        if places and worn.min_relevance:
            told = bearing(places, worn.similarity, worn.min_relevance)
        return Prompt(
            question=question,
            adapters=self.adapters(worn),
            relevance=told,
            max_tokens=self._max_tokens,
            realm=self._realm,
        )

    def _places(self, worn: Worn) -> Places | None:
        """Return what the adapter keeps of the parts that were found."""
        whole = self._adapters.load(worn.record).places
        return part(whole, worn.spans) if whole else None


def _looked_at(passages: Sequence[str], places: Sequence[Places | None]) -> list[Places | str]:
    """Return what was kept of each passage, or itself."""
    return [kept or text for text, kept in zip_longest(passages, places)]
