"""Questions held against the documents they name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from difflib import get_close_matches

from hybridqa.errors import InputError
from hybridqa.eval.cases import Case, Dataset, Span
from hybridqa.eval.datasets.answers import Claim
from hybridqa.eval.datasets.questions import Question
from hybridqa.eval.datasets.spans import find_answers
from hybridqa.types import Document


def assemble(
    name: str, source: str, documents: Iterable[Document], questions: Iterable[Question]
) -> Dataset:
    """Return a dataset; documents that no question names stay in it.

    An answer stands where the data says, or else, document by document, wherever it occurs.
    A question without an answer names no document, even if it was asked of one.

    Args:
        name: Of the dataset.
        source: Where it came from.
        documents: With ids of their own.
        questions: Texts that they bring along become documents.

    Raises:
        InputError: There is no question or no document, an id is used twice, a question names an
            unknown document, or an answer does not stand where the data says.
    """
    shelf = _Shelf(name, source, documents)
    named = [(question, shelf.documents_of(question)) for question in questions]
    if not named:
        raise InputError(f"`{source}` holds no question. Put some in, or name another file.")
    if not shelf.documents:
        raise InputError(
            f"The questions of `{source}` come without documents. Put texts into a column "
            "`context`, or files into a folder `documents` beside it, or name their folder."
        )
    ids = _ids(name, named)
    cases = [
        Case(
            id=id,
            question=question.question,
            answers=question.answers,
            documents=tuple(of.id for of in texts) if question.answers else (),
            about=() if question.answers else tuple(of.id for of in texts),
            spans=tuple(_spans(question, texts)),
            labels=question.labels,
        )
        for id, (question, texts) in zip(ids, named, strict=True)
    ]
    return Dataset(name=name, documents=tuple(shelf.documents.values()), cases=tuple(cases))


class _Shelf:
    """The documents so far."""

    def __init__(self, name: str, source: str, documents: Iterable[Document]) -> None:
        self._name, self._source = name, source
        self.documents: dict[str, Document] = {}
        for document in documents:
            if document.id in self.documents:
                raise InputError(
                    f"`{source}`: two documents have the id `{document.id}`. Rename one."
                )
            self.documents[document.id] = document
        self._named_by_us: dict[tuple[str, str], str] = {}
        self._counts: Counter[str] = Counter()

    def documents_of(self, question: Question) -> list[Document]:
        """Return those that a question names or brings along, each once."""
        ids: Iterable[str]
        if question.contexts:
            ids = self._bring(question)
        else:
            ids = question.documents
            for id in ids:
                if id not in self.documents:
                    raise InputError(self._unknown(question, id))
        return [self.documents[id] for id in dict.fromkeys(ids)]

    def _bring(self, question: Question) -> list[str]:
        """Return the ids of a question's contexts; they are added where they are new."""
        contexts, title = question.contexts, question.title
        ids = question.documents or [self._id(title, text) for text in contexts]
        if len(ids) != len(contexts):
            raise InputError(
                f"{question.where}: there are {len(contexts)} contexts, but {len(ids)} documents. "
                "Name one for each context, or none."
            )
        for id, text in zip(ids, contexts, strict=True):
            known = self.documents.setdefault(
                id, Document(id=id, text=text, title=title or id, source=self._source)
            )
            if known.text != text:
                raise InputError(
                    f"{question.where}: the context of the document `{id}` differs from an earlier "
                    "one. Give each text an id of its own."
                )
        return list(ids)

    def _id(self, title: str, text: str) -> str:
        """Return an id for a text without one: the same for the same text and title."""
        stem = title or self._name
        if (stem, text) not in self._named_by_us:
            self._counts[stem] += 1
            while (id := f"{stem}-{self._counts[stem]}") in self.documents:
                self._counts[stem] += 1
            self._named_by_us[stem, text] = id
            return id
        return self._named_by_us[stem, text]

    def _unknown(self, question: Question, id: str) -> str:
        close = get_close_matches(id[:80], list(self.documents)[:5000], n=1)
        hint = f"Did you mean `{close[0]}`?" if close else "Give its path below the folder."
        return (
            f"{question.where}: there is no document `{id[:80]}` among {len(self.documents)}. "
            f"{hint} A column of texts must be called `context`, or be mapped to it by `columns`."
        )


def _ids(name: str, named: Sequence[tuple[Question, Sequence[Document]]]) -> list[str]:
    """Return given ids, and for questions without one, the document's with a running number."""
    given: dict[str, str] = {}
    for question, _ in named:
        if question.id and given.setdefault(question.id, question.where) != question.where:
            raise InputError(
                f"{question.where}: the id `{question.id}` was used at {given[question.id]}. Give "
                "every question one of its own, or map `id` to no column: then they are numbered."
            )
    counts: Counter[str] = Counter()
    ids = []
    for question, documents in named:
        id, stem = question.id, documents[0].id if documents else name
        while not id or (not question.id and id in given):
            counts[stem] += 1
            id = f"{stem}/{counts[stem]}"
        ids.append(id)
    return ids


def _spans(question: Question, documents: Sequence[Document]) -> Iterator[Span]:
    for n, document in enumerate(documents):
        claims = question.claims if n == 0 else ()
        found = [_claimed(claim, document, question.where) for claim in claims]
        for start, end in sorted(set(found or find_answers(question.answers, document.text))):
            yield Span(document=document.id, start=start, end=end)


def _claimed(claim: Claim, document: Document, where: str) -> tuple[int, int]:
    """Return where an answer stands by the data's word, without white space around it."""
    start, end = claim.start, claim.start + len(claim.answer)
    if document.text[start:end] != claim.answer:
        raise InputError(
            f"{where}: at {start} of `{document.id}` should stand the answer "
            f"`{claim.answer[:60]}`, but there stands `{document.text[start:end][:60]}`. Correct "
            "the offset, or leave it out (map `answer_start` to no column): then the answer is "
            "searched for."
        )
    lead = len(claim.answer) - len(claim.answer.lstrip())
    return start + lead, start + len(claim.answer.rstrip())
