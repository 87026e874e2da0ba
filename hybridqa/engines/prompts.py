"""What the model is given under each arm: what it reads, wears and may quote."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hybridqa.errors import CorruptAdapterError
from hybridqa.internalize.compress import take_shares
from hybridqa.models.places import part
from hybridqa.protocols import Prompt
from hybridqa.stores.adapters import AdapterStore
from hybridqa.types import Adapter, AdapterRecord, Chunk, Places

SURE = 0.5
"""Share of a place in a retrieved passage from which the model need not read the passages."""


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
        share = take_shares(whole, [number], len(record.shares))
        task = self._task_adapters[record.task_adapter_id] if record.task_adapter_id else None
        places = part(whole.places, looked_at) if whole.places and text is not None else None
        quoted = text
        if text is not None and places is None:
            quoted = text[slice(*record.shares[number])]
        return Prompt(
            question=question,
            adapters=(task, share) if task else (share,),
            quote_from=None if quoted is None else (quoted,),
            locate=0.0 if places else None,
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
    ) -> Prompt:
        """Read passages, and wear a share of an adapter besides.

        Args:
            question: Stands after the passages.
            passages: Best first.
            quoting: Whether the answer must be a span of theirs.
            worn: An adapter's record, and the number of its share.
            places: What was kept of each passage; see `kept`.

        Raises:
            CorruptAdapterError: Its files are damaged.
        """
        # With passages to read, the share goes on the reader rather than on its own task
        # adapter, which was trained without any (F1 0.52 against 0.39 on 48 questions).
        share = (self._share(*worn),) if worn else ()
        return Prompt(
            question=question,
            passages=passages,
            adapters=(*self._reading, *share),
            quote_from=passages if quoting else None,
            locate=SURE if quoting and worn is None else None,
            places=places,
            max_tokens=self._max_tokens,
            realm=self._realm,
        )

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

    def _share(self, record: AdapterRecord, number: int) -> Adapter:
        return take_shares(self._adapters.load(record), [number], len(record.shares))
