from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hybridqa.engines.retrieve import Retriever
from hybridqa.errors import (
    AdapterMismatchError,
    CorruptAdapterError,
    NoLiveAdapterError,
    QuestionError,
    StaleDocumentError,
    UnknownDocumentError,
)
from hybridqa.protocols import Generation, Prompt
from hybridqa.routing.policy import Thresholds
from hybridqa.testing import FakeGenerator, FakeInternalizer, FakeSystem, written_text
from hybridqa.types import AdapterRecord, Answer, Arm, Document, Hit, Style

RAIN = "Rain fell on the old town for days. " * 8
CODE = "What is the gate code?"
WEIGHT = "How much does the kettle weigh?"


def manual(code: str = "walnut") -> Document:
    text = f"The gate code is {code}. {RAIN}\n\nThe kettle weighs 980 grams. {RAIN}"
    return Document(id="manual.md", text=text, title="Gate manual", source="/docs/manual.md")


def ingest(system: FakeSystem, document: Document, adapter: bool = True) -> AdapterRecord | None:
    internalizer = FakeInternalizer() if adapter else None
    return system.ingestor().ingest(document, internalizer).adapter


def assert_exact(system: FakeSystem, answer: Answer) -> None:
    """Every citation stands in the document as it is now."""
    for citation in answer.citations:
        text = system.catalog.get(citation.document_id).document.text
        assert citation.quote == text[citation.start : citation.end]


def seen(system: FakeSystem) -> list[Prompt]:
    assert isinstance(system.generator, FakeGenerator)
    return system.generator.prompts


# Routing


@pytest.mark.parametrize("style", Style)
def test_stable_knowledge_is_answered_from_the_adapter(system: FakeSystem, style: Style) -> None:
    record = ingest(system, manual())

    answer = system.answerer().ask(CODE, style=style)

    assert (answer.arm, answer.text) == (Arm.ADAPTER, "The gate code is walnut.")
    assert answer.adapter == record
    assert answer.style is style
    assert [c.quote for c in answer.citations] == ["The gate code is walnut."]
    assert_exact(system, answer)
    assert answer.confidence == pytest.approx(0.9)
    assert answer.reasons
    assert all(prompt.passages == () for prompt in seen(system))


def test_of_a_long_document_the_share_that_bears_on_the_question_is_worn(
    system: FakeSystem,
) -> None:
    record = ingest(system, manual())
    assert record is not None
    assert len(record.shares) > 2
    system.passages = 1

    answer = system.answerer().ask(WEIGHT)

    [prompt] = seen(system)
    assert "The kettle weighs 980 grams." in written_text(prompt.adapters[0])
    assert "walnut" not in written_text(prompt.adapters[0])
    assert prompt.quote_from is not None
    assert "walnut" not in prompt.quote_from[0]
    assert answer.arm is Arm.ADAPTER
    assert answer.citations[0].quote == "The kettle weighs 980 grams."
    assert_exact(system, answer)


@pytest.mark.parametrize(
    ("question", "adapter"),
    [
        (f"{CODE} Quote the source.", True),
        ("What is the gate code right now?", True),
        (CODE, False),
    ],
)
def test_what_asks_for_sources_or_the_present_is_answered_by_retrieval(
    system: FakeSystem, question: str, adapter: bool
) -> None:
    ingest(system, manual(), adapter)

    answer = system.answerer().ask(question)

    assert (answer.arm, answer.adapter) == (Arm.RETRIEVAL, None)
    assert answer.text == "The gate code is walnut."
    assert_exact(system, answer)
    assert [prompt.adapters for prompt in seen(system)] == [()]


def test_explain_tells_what_ask_would_do_and_generates_nothing(system: FakeSystem) -> None:
    ingest(system, manual())

    decision = system.answerer().explain(CODE)

    assert seen(system) == []
    assert decision.arm is Arm.ADAPTER
    assert decision.document_ids == ("manual.md",)
    assert tuple(system.answerer().ask(CODE).reasons) == tuple(decision.reasons)
    assert system.answerer().explain(CODE, Arm.BASE).arm is Arm.BASE


@pytest.mark.parametrize("style", Style)
@pytest.mark.parametrize("arm", Arm)
def test_every_arm_can_be_forced(system: FakeSystem, arm: Arm, style: Style) -> None:
    record = ingest(system, manual())

    answer = system.answerer().ask(CODE, arm, style=style)

    assert answer.arm is arm
    prompt = seen(system)[0]
    assert bool(prompt.passages) is (arm in (Arm.RETRIEVAL, Arm.BOTH))
    assert bool(prompt.adapters) is (arm is Arm.ADAPTER)
    assert [bool(e.prompt.adapters) and not e.prompt.passages for e in prompt.pool] == (
        [True] if arm is Arm.BOTH else []
    )
    reads = arm is not Arm.BASE
    assert (prompt.quote_from is not None) is (style is not Style.FREE and reads)
    assert (prompt.instead is not None) is (style is Style.EITHER and reads)
    assert answer.adapter == (record if arm in (Arm.ADAPTER, Arm.BOTH) else None)
    if arm is not Arm.BASE:  # the fake model alone knows nothing
        assert answer.text == "The gate code is walnut."
        assert len(answer.citations) == 1
    assert_exact(system, answer)


@pytest.mark.parametrize("arm", [Arm.ADAPTER, Arm.RETRIEVAL, Arm.BOTH])
def test_in_either_style_the_model_words_what_no_quotation_answers(
    system: FakeSystem, arm: Arm
) -> None:
    ingest(system, manual())

    answer = system.answerer().ask(CODE, arm, style=Style.EITHER)

    prompt = seen(system)[0]
    assert prompt.instead
    words = prompt.instead
    assert (words.relevance is not None) is (arm is not Arm.ADAPTER)  # which has no places here
    if words.relevance:
        assert words.relevance.texts == list(prompt.passages)
        assert words.relevance.least == pytest.approx(1 - Thresholds().silent_from)
    assert (words.quote_from, words.rounds, words.instead) == (None, (), None)
    assert (words.passages, words.pool) == (prompt.passages, prompt.pool)
    assert [a.id for a in words.adapters] == [a.id for a in prompt.adapters]
    assert answer.style is Style.EITHER
    assert answer.reasons[-1] == "no quotation was found: these are the model's own words"
    assert_exact(system, answer)


@pytest.mark.parametrize("arm", [Arm.ADAPTER, Arm.BOTH])
def test_an_adapter_that_is_not_there_cannot_be_forced(system: FakeSystem, arm: Arm) -> None:
    with pytest.raises(NoLiveAdapterError, match="no document fits"):
        system.answerer().ask(CODE, arm)

    ingest(system, manual(), adapter=False)

    with pytest.raises(NoLiveAdapterError, match=r"`manual\.md` has no live adapter. Ingest it"):
        system.answerer().ask(CODE, arm)


def test_an_adapter_of_another_model_is_left_out(system: FakeSystem) -> None:
    record = ingest(system, manual())
    assert record is not None
    system.generator = FakeGenerator(model_fingerprint="another-model")

    answer = system.answerer().ask(CODE)

    assert (answer.arm, answer.text) == (Arm.RETRIEVAL, "The gate code is walnut.")
    assert any("no live adapter" in reason for reason in answer.reasons)
    with pytest.raises(AdapterMismatchError, match=r"`fake-model`.*`another-mode`.*ingest its doc"):
        system.answerer().ask(CODE, Arm.ADAPTER)


def test_an_adapter_on_an_unknown_task_adapter_is_left_out(system: FakeSystem) -> None:
    ingest(system, manual())
    [record] = system.catalog.adapters()
    system.catalog.put_adapter(replace(record, task_adapter_id="e" * 64))

    assert system.answerer().ask(CODE).arm is Arm.RETRIEVAL


def test_named_documents_alone_are_asked(system: FakeSystem) -> None:
    ingest(system, manual())
    other = Document(
        id="notes.md", text="The gate code was once plum.", title="Notes", source="/docs/notes.md"
    )
    ingest(system, other)

    answer = system.answerer().ask(CODE, document_ids=["notes.md"])

    assert answer.text == "The gate code was once plum."
    assert {citation.document_id for citation in answer.citations} == {"notes.md"}
    with pytest.raises(UnknownDocumentError, match=r"\.\./etc"):
        system.answerer().ask(CODE, document_ids=["notes.md", "../etc"])


# Fallback


def test_an_adapter_in_doubt_gives_way_to_retrieval(system: FakeSystem) -> None:
    ingest(system, manual())
    system.generator = FakeGenerator(confidence=lambda prompt: 0.9 if prompt.passages else 0.1)

    answer = system.answerer().ask(CODE)

    assert (answer.arm, answer.text) == (Arm.RETRIEVAL, "The gate code is walnut.")
    assert answer.adapter is None
    assert answer.confidence == pytest.approx(0.9)
    assert "the adapter's confidence is 0.10, below 0.2" in answer.reasons
    assert answer.reasons[-1] == "fell back to retrieval"
    forced = system.answerer().ask(CODE, Arm.ADAPTER)
    assert (forced.arm, forced.text) == (Arm.ADAPTER, "The gate code is walnut.")
    assert "the adapter's confidence is 0.10, below 0.2" in forced.reasons


def made_up_by_adapters(question: str, texts: Sequence[str]) -> str:
    return "The gate code is walnut." if len(texts) == 3 else "Elephants fly"


def test_an_adapter_that_nothing_supports_gives_way_to_retrieval(system: FakeSystem) -> None:
    ingest(system, manual())
    system.generator = FakeGenerator(made_up_by_adapters)

    answer = system.answerer().ask(CODE, style=Style.FREE)

    assert (answer.arm, answer.text) == (Arm.RETRIEVAL, "The gate code is walnut.")
    assert "the evidence supports the adapter's answer by 0.00, below 0.4" in answer.reasons
    assert_exact(system, answer)
    forced = system.answerer().ask(CODE, Arm.ADAPTER, style=Style.FREE)
    assert (forced.text, forced.citations) == ("Elephants fly", ())
    assert "the evidence supports the adapter's answer by 0.00, below 0.4" in forced.reasons


class Finding(FakeGenerator):
    """Finds its quotations, as a locator does, and counts what it is to judge."""

    judged = 0

    def generate(self, prompts: Sequence[Prompt]) -> list[Generation]:
        made = super().generate(prompts)
        return [replace(each, located=each.span is not None) for each in made]

    def score(self, prompts: Sequence[Prompt], answers: Sequence[str]) -> list[float]:
        self.judged += len(answers)
        return super().score(prompts, answers)


@pytest.mark.parametrize(("share", "arm"), [(0.9, Arm.ADAPTER), (0.2, Arm.RETRIEVAL)])
def test_what_was_found_is_supported_by_its_share_and_not_read_again(
    system: FakeSystem, share: float, arm: Arm
) -> None:
    ingest(system, manual())
    system.generator = Finding(confidence=lambda prompt: 0.9 if prompt.passages else share)

    answer = system.answerer().ask(CODE, style=Style.QUOTE)

    assert answer.arm is arm
    assert answer.attempts[0].support == pytest.approx(share)
    assert system.generator.judged == 0


def test_an_adapter_that_abstains_gives_way_to_retrieval(system: FakeSystem) -> None:
    ingest(system, manual())
    system.generator = FakeGenerator(
        lambda question, texts: "The gate code is walnut." if len(texts) == 3 else ""
    )

    answer = system.answerer().ask(CODE)

    assert (answer.arm, answer.text) == (Arm.RETRIEVAL, "The gate code is walnut.")
    assert "the adapter gave no answer" in answer.reasons
    assert system.answerer().ask(CODE, Arm.ADAPTER).abstained


def test_a_damaged_adapter_gives_way_to_retrieval(system: FakeSystem, tmp_path: Path) -> None:
    record = ingest(system, manual())
    assert record is not None
    (tmp_path / "adapters" / record.id / "adapter_model.safetensors").write_bytes(b"junk")

    answer = system.answerer().ask(CODE)

    assert (answer.arm, answer.text) == (Arm.RETRIEVAL, "The gate code is walnut.")
    assert any(f"`{record.id[:12]}` cannot be read" in reason for reason in answer.reasons)
    with pytest.raises(CorruptAdapterError, match=r"Ingest document `manual\.md` again"):
        system.answerer().ask(CODE, Arm.ADAPTER)


# Abstention


def assert_abstained(answer: Answer, reason: str) -> None:
    assert answer.abstained
    assert (answer.text, answer.citations, answer.adapter) == ("", (), None)
    assert any(reason in given for given in answer.reasons), answer.reasons


def test_without_documents_nothing_is_answered(system: FakeSystem) -> None:
    assert_abstained(system.answerer().ask(CODE), "no document was found")
    assert seen(system) == []


def test_what_no_document_speaks_of_is_not_answered(system: FakeSystem) -> None:
    ingest(system, manual())

    answer = system.answerer().ask("Who painted Guernica?")

    assert_abstained(answer, "no passage bears on the question")
    assert answer.confidence == 0
    assert seen(system) == []
    assert {"retrieve", "route", "total"} <= answer.timings_ms.keys()


def test_a_model_that_does_not_find_it_abstains(system: FakeSystem) -> None:
    ingest(system, manual())
    system.generator = FakeGenerator(lambda question, texts: "")

    assert_abstained(system.answerer().ask(CODE), "the passages do not say")
    assert_abstained(system.answerer().ask(CODE, Arm.RETRIEVAL), "the passages do not say")


def test_a_free_answer_that_no_passage_supports_is_withheld(system: FakeSystem) -> None:
    ingest(system, manual())
    system.generator = FakeGenerator(lambda question, texts: "Elephants fly")

    for arm in (None, Arm.RETRIEVAL, Arm.BOTH):
        answer = system.answerer().ask(CODE, arm, style=Style.FREE)
        assert_abstained(answer, "no passage supports what the model said")


def test_a_doubtful_answer_is_withheld_unless_it_was_asked_for(system: FakeSystem) -> None:
    ingest(system, manual())
    system.generator = FakeGenerator(confidence=lambda prompt: 0.1)

    assert_abstained(system.answerer().ask(CODE), "the answer's confidence is 0.10, below 0.5")
    assert system.answerer().ask(CODE, Arm.RETRIEVAL).text == "The gate code is walnut."


def test_the_model_alone_says_so(system: FakeSystem) -> None:
    ingest(system, manual())
    system.generator = FakeGenerator(lambda question, texts: "Paris")
    answer = system.answerer().ask("Which city is it?", Arm.BASE)
    assert (answer.text, answer.citations, answer.style) == ("Paris", (), Style.FREE)
    assert any("memory alone" in reason for reason in answer.reasons)

    system.generator = FakeGenerator(lambda question, texts: "980 grams")
    answer = system.answerer().ask(WEIGHT, Arm.BASE)
    assert [citation.quote for citation in answer.citations] == ["980 grams"]
    assert_exact(system, answer)


# Questions and timings


@pytest.mark.parametrize(
    ("question", "message"),
    [
        ("", "is empty"),
        (" \n\t", "is empty"),
        ("\0\0", "is empty"),
        ("q" * 401, "has 401 characters, limit 400.*max_question_chars"),
        ("caf\udce9?", "not UTF-8 at character 3"),
    ],
)
def test_a_bad_question_is_refused(system: FakeSystem, question: str, message: str) -> None:
    with pytest.raises(QuestionError, match=message):
        system.answerer().ask(question)
    with pytest.raises(QuestionError, match=message):
        system.answerer().explain(question)


@pytest.mark.parametrize(
    "question",
    [
        "What is the\0gate code?",
        "🫖 What is the gate code\u202e?",
        "<|im_end|> What is the gate code?",
        "What is the gate code?'; DROP --",
    ],
)
def test_odd_characters_do_no_harm(system: FakeSystem, question: str) -> None:
    ingest(system, manual())

    assert system.answerer().ask(question).text == "The gate code is walnut."


@pytest.mark.parametrize("arm", Arm)
def test_timings_are_given_by_stage(system: FakeSystem, arm: Arm) -> None:
    ingest(system, manual())
    system.generator = FakeGenerator(lambda question, texts: "walnut")

    timings = system.answerer().ask(CODE, arm).timings_ms

    expected = {"retrieve", "route", "first_token", "generate", "total"}
    if arm is not Arm.BASE:  # what an adapter keeps of a passage serves retrieval, too
        expected |= {"verify", "load_adapter"}
    assert timings.keys() == expected
    assert all(0 <= timings[stage] <= timings["total"] for stage in expected)


# Change while asking; more in test_freshness.py


class Overtaken(FakeGenerator):
    """Something happens while it generates."""

    def __init__(self, *events: Callable[[], Any]) -> None:
        super().__init__()
        self.events = list(events)

    def generate(self, prompts: Sequence[Prompt]) -> list[Generation]:
        generations = super().generate(prompts)
        if self.events:
            self.events.pop(0)()
        return generations


class OvertakenRetriever(Retriever):
    """Something happens after its first search."""

    def __init__(self, system: FakeSystem, event: Callable[[], Any]) -> None:
        super().__init__(system.embedder, system.index, system.catalog)
        self._events = [event]

    def search(self, *args: Any, **kwargs: Any) -> list[Hit]:
        hits = super().search(*args, **kwargs)
        if self._events:
            self._events.pop()()
        return hits


@pytest.mark.parametrize("arm", [None, Arm.ADAPTER, Arm.RETRIEVAL, Arm.BOTH])
def test_an_answer_that_a_change_overtakes_is_made_anew(
    system: FakeSystem, arm: Arm | None
) -> None:
    ingest(system, manual())
    system.generator = Overtaken(lambda: ingest(system, manual("birch")))

    answer = system.answerer().ask(CODE, arm)

    assert answer.text == "The gate code is birch."
    assert_exact(system, answer)
    if answer.adapter is not None:
        assert answer.adapter.content_hash == manual("birch").content_hash


@pytest.mark.parametrize("arm", [None, Arm.ADAPTER, Arm.RETRIEVAL])
def test_a_change_between_search_and_decision_is_seen(system: FakeSystem, arm: Arm | None) -> None:
    ingest(system, manual())
    retriever = OvertakenRetriever(system, lambda: ingest(system, manual("birch")))

    answer = system.answerer(retriever).ask(CODE, arm)

    assert answer.text == "The gate code is birch."
    assert_exact(system, answer)


@pytest.mark.parametrize("when", ["searching", "loading", "generating"])
def test_a_document_deleted_meanwhile_is_not_answered_from(
    system: FakeSystem, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ingest(system, manual())

    def delete() -> None:
        if system.catalog.find("manual.md"):
            system.ingestor().delete("manual.md")

    retriever = OvertakenRetriever(system, delete if when == "searching" else lambda: None)
    if when == "loading":
        system.adapters = Deleting(system.adapters, delete)  # type: ignore[assignment]
    if when == "generating":
        system.generator = Overtaken(delete)

    assert_abstained(system.answerer(retriever).ask(CODE), "no document was found")


class Deleting:
    """An adapter store from which something is deleted before it loads."""

    def __init__(self, inner: object, delete: Callable[[], None]) -> None:
        self._inner, self._delete = inner, delete

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def load(self, record: AdapterRecord) -> Any:
        self._delete()
        return self._inner.load(record)  # type: ignore[attr-defined]


def test_a_document_that_keeps_changing_is_given_up(system: FakeSystem) -> None:
    ingest(system, manual())
    codes = ["birch", "cedar", "plum", "yew"]
    system.generator = Overtaken(*(lambda c=code: ingest(system, manual(c)) for code in codes))

    with pytest.raises(StaleDocumentError, match="changed 3 times"):
        system.answerer().ask(CODE)
