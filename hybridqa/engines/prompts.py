"""What the model is given under each arm: what it reads, wears and may quote."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

from hybridqa.errors import CorruptAdapterError
from hybridqa.internalize.compress import take_shares
from hybridqa.models.places import part
from hybridqa.protocols import Expert, Judge, Prompt, Round
from hybridqa.stores.adapters import AdapterStore
from hybridqa.types import Adapter, AdapterRecord, Chunk, Places

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

    def worn(
        self,
        question: str,
        record: AdapterRecord,
        number: int,
        text: str | None,
        looked_at: Sequence[tuple[int, int]] = (),
    ) -> Prompt:
        """Wear a share of an adapter.

        Args:
            question: With nothing to read.
            record: Of the adapter.
            number: Of the share.
            text: The document's, if it is to be quoted: all of it where its places are looked at,
                or else what the share was made from. `None` leaves the wording free.
            looked_at: Spans of the text whose places are looked at.

        Raises:
            CorruptAdapterError: Its files are damaged.
        """
        whole = self._adapters.load(record)
        places = part(whole.places, looked_at) if whole.places and text is not None else None
        quoted = text
        if text is not None and places is None:
            quoted = text[slice(*record.shares[number])]
        return Prompt(
            question=question,
            adapters=self._worn(record, number),
            quote_from=None if quoted is None else (quoted,),
            rounds=(BY_PLACES,) if places else (),
            places=(places,) if places else (),
            max_tokens=self._max_tokens,
            realm=self._realm,
        )

    def read(
        self,
        question: str,
        passages: Sequence[str],
        quoting: bool,
        worn: tuple[AdapterRecord, int] | None = None,
        places: Sequence[Places | None] = (),
        judging: Sequence[tuple[AdapterRecord, int] | None] = (),
    ) -> Prompt:
        """Read passages, and ask an adapter besides.

        Args:
            question: Stands after the passages.
            passages: Best first.
            quoting: Whether the answer must be a span of theirs.
            worn: An adapter's record, and the number of its share. Worn by a model that reads
                nothing, and has a say in every token. Where what is quoted is located, nothing is
                written, and it has none.
            places: What was kept of each passage; see `kept`.
            judging: The same as `worn` for each passage: judges what is located in it.

        Raises:
            CorruptAdapterError: Its files are damaged.
        """
        pool: tuple[Expert, ...] = ()
        if worn:
            wearing = Prompt(question=question, adapters=self._worn(*worn), realm=self._realm)
            pool = (Expert(prompt=wearing, weight=_SAY),)
        rounds: tuple[Round, ...] = ()
        if quoting:
            reading = Prompt(
                question=question, passages=passages, adapters=self._reading, realm=self._realm
            )
            rounds = (BY_PLACES, self._weighed(reading, judging))
        return Prompt(
            question=question,
            passages=passages,
            adapters=self._reading,
            quote_from=passages if quoting else None,
            rounds=rounds,
            places=places,
            pool=pool,
            max_tokens=self._max_tokens,
            realm=self._realm,
        )

    def _weighed(
        self, reading: Prompt, judging: Sequence[tuple[AdapterRecord, int] | None]
    ) -> Round:
        """Return the round in which the reader judges, and any adapters of passages."""
        wearing: dict[tuple[str, ...], tuple[tuple[Adapter, ...], set[int]]] = {}
        for number, each in enumerate(judging):
            with suppress(CorruptAdapterError):  # whose passages the reader judges alone
                adapters = self._worn(*each) if each else ()
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

    def _worn(self, record: AdapterRecord, number: int) -> tuple[Adapter, ...]:
        """Return a share of an adapter, and below it what it was made on."""
        task = self._task_adapters[record.task_adapter_id] if record.task_adapter_id else None
        share = self._share(record, number)
        return (task, share) if task else (share,)

    def _share(self, record: AdapterRecord, number: int) -> Adapter:
        return take_shares(self._adapters.load(record), [number], len(record.shares))
