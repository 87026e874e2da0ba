"""Every arm with scripted models: what stands in its prompt, what it wears, what it may quote."""

import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from rich.console import Console
from tokenizers import Tokenizer, models, pre_tokenizers

from hybridqa.config import AnswerConfig, Config, IndexConfig, InternalizeConfig, ModelConfig
from hybridqa.errors import InputError, QuestionError
from hybridqa.eval.arms import ArmName, parse_arms
from hybridqa.eval.bench import scratch
from hybridqa.eval.datasets import GoldQuestion, Passage, Sample, sample
from hybridqa.eval.qa import DEFAULT_ARMS, QaReport, compare, run_qa
from hybridqa.eval.report import differences, markdown, table
from hybridqa.protocols import Generation, Prompt
from hybridqa.testing import FakeEmbedder
from hybridqa.types import Adapter, Chunk, Document, Internalized, LoraLayer
from hybridqa.wiring import HybridQA

RIVERS = {"Lune": "Lancaster", "Derwent": "Derby", "Ribble": "Preston", "Nidd": "Knaresborough"}
CONFIG = Config(
    model=ModelConfig(name="fake", reader=None),
    internalize=InternalizeConfig(hypernetwork="/nowhere"),
    answer=AnswerConfig(passages=2, max_tokens=5),
    index=IndexConfig(url="http://a.server.that.must.not.be.asked"),
)


def passages(words: int = 0) -> tuple[Passage, ...]:
    return tuple(
        Passage(
            id=river,
            context=f"{town} lies on the river {river}." + " Filler." * words,
            qas=(GoldQuestion(question=f"What lies on the {river}?", answers=(town,)),),
        )
        for river, town in RIVERS.items()
    )


class ScriptedGenerator:
    """Knows what it reads or wears; otherwise says `Paris`. Keeps all prompts."""

    model_fingerprint = "fake"

    def __init__(self, longest: int = 10_000) -> None:
        self.batches: list[list[Prompt]] = []
        self.longest = longest

    @property
    def prompts(self) -> list[Prompt]:
        return [prompt for batch in self.batches for prompt in batch]

    def generate(self, prompts: Sequence[Prompt]) -> list[Generation]:
        if any(len("".join(prompt.passages)) > self.longest for prompt in prompts):
            raise QuestionError("The prompt is too long.")
        self.batches.append(list(prompts))
        return [self._answer(prompt) for prompt in prompts]

    def _answer(self, prompt: Prompt) -> Generation:
        known = "".join(prompt.passages) + "".join(map(worn_town, prompt.adapters))
        towns = [town for town in RIVERS.values() if town in known]
        text = min(towns, key=known.index, default="Paris")
        quotes = prompt.quote_from or [text]
        at = next((n for n, quote in enumerate(quotes) if text in quote), None)
        start = quotes[at].index(text) if at is not None else 0
        return Generation(
            text=text if at is not None else "",
            token_ids=(1, 2),
            logprobs=(-0.1, -0.3),
            span=(at, start, start + len(text)) if prompt.quote_from and at is not None else None,
            abstained=at is None,
            prompt_tokens=1,
            first_token_s=0.0,
            seconds=0.0,
        )

    def score(self, prompts: Sequence[Prompt], answers: Sequence[str]) -> list[float]:
        return [0.9] * len(prompts)

    def stream(self, prompt: Prompt) -> Iterator[str]:
        yield self._answer(prompt).text


class StampingInternalizer:
    """Writes the number of a document's river into its adapter."""

    name, fingerprint = "associative", "stamp"
    task_adapter = None

    def internalize(self, document: Document, chunks: Sequence[Chunk]) -> Internalized:
        stamp = float(list(RIVERS).index(document.id))
        count = len(chunks)
        layer = LoraLayer(torch.arange(count)[:, None].float(), torch.full((1, count), stamp))
        layers = {"model.layers.0.mlp.down_proj": layer}
        adapter = Adapter(f"{int(stamp):064x}", layers, "fake")
        return Internalized(
            adapter=adapter,
            task_adapter=None,
            rank=count,
            energy=1.0,
            shares=[(c.start, c.end) for c in chunks],
            seconds=0,
        )


def worn_town(adapter: Adapter) -> str:
    (layer,) = adapter.layers.values()
    return list(RIVERS.values())[int(layer.up[0, 0])]


def worn_chunks(adapter: Adapter) -> list[int]:
    (layer,) = adapter.layers.values()
    return [int(number) for number in layer.down[:, 0]]


def fake(qa: HybridQA, generator: ScriptedGenerator) -> None:
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    replaced: dict[str, Any] = {
        "base": SimpleNamespace(
            name="fake",
            fingerprint="fake",
            device="cpu",
            tokenizer=SimpleNamespace(backend_tokenizer=tokenizer),
        ),
        "generator": generator,
        "embedder": FakeEmbedder(dimension=256),
        "associative": StampingInternalizer(),
    }
    for name, piece in replaced.items():
        setattr(qa, name, piece)


def compared(
    *arms: ArmName,
    generator: ScriptedGenerator | None = None,
    questions: Sample | None = None,
    config: Config = CONFIG,
    batch_size: int = 16,
) -> QaReport:
    with scratch(config) as qa:
        fake(qa, generator or ScriptedGenerator())
        return compare(qa, questions or sample(passages()), arms, "rivers", 0, batch_size)


def test_every_arm_scores_what_it_can_know() -> None:
    report = compared(*ArmName)

    f1 = {name: arm.f1.mean for name, arm in report.arms.items()}
    assert f1 == {
        "base": 0,
        "base+quote": 0,
        "context": 1,
        "context+quote": 1,
        "adapter": 1,
        "adapter+quote": 1,
        "wrong-adapter": 0,
        "wrong-adapter+quote": 0,
        "retrieval": 1,
        "retrieval+quote": 1,
        "both": 1,
        "both+quote": 1,
        "auto": 1,
    }
    assert report.arms["wrong-adapter"].abstained == 0
    assert report.arms["wrong-adapter+quote"].abstained == 4  # the right document says no such town
    assert report.differences["adapter+quote - wrong-adapter+quote"].low == 1
    assert sum(report.arms["auto"].routes.values()) == 4


@pytest.mark.parametrize(
    ("arm", "reads", "wears"),
    [
        (ArmName.BASE, 0, ""),
        (ArmName.CONTEXT, 1, ""),
        (ArmName.ADAPTER, 0, "own"),
        (ArmName.WRONG_ADAPTER, 0, "other"),
        (ArmName.RETRIEVAL, 2, ""),
        (ArmName.BOTH, 2, "own"),
    ],
)
def test_prompts(arm: ArmName, reads: int, wears: str) -> None:
    generator = ScriptedGenerator()
    compared(arm, generator=generator)

    for prompt in generator.prompts:
        river = prompt.question.removeprefix("What lies on the ").removesuffix("?")
        own = f"{RIVERS[river]} lies on the river {river}."
        assert len(prompt.passages) == reads
        assert not reads or prompt.passages[0] == own
        assert prompt.quote_from in (None, prompt.passages if reads == 2 else (own,))
        towns = [worn_town(adapter) for adapter in prompt.adapters]
        if wears == "other":
            assert towns != [RIVERS[river]]
            assert len(towns) == 1
        else:
            assert towns == ([RIVERS[river]] if wears else [])
        assert prompt.max_tokens == 5
    assert sum(prompt.quote_from is None for prompt in generator.prompts) == 4


def test_of_a_long_passage_the_part_is_worn_that_bears_on_the_question() -> None:
    generator = ScriptedGenerator()
    filler = " Filler and nothing else." * 25
    text = filler + " Preston lies on the river Ribble." + filler
    question = GoldQuestion(question="What lies on the river Ribble?", answers=("Preston",))
    config = replace(CONFIG, index=IndexConfig(chunk_tokens=40))
    compared(
        ArmName.ADAPTER,
        generator=generator,
        questions=sample([Passage(id="Ribble", context=text, qas=(question,))]),
        config=config,
    )

    tokens_before = len(filler.split())
    for prompt in generator.prompts:
        (adapter,) = prompt.adapters
        (number,) = worn_chunks(adapter)
        assert (number - 1) * 40 < tokens_before < (number + 2) * 40
        assert prompt.quote_from in (None, (text,))


def test_json_has_the_promised_shape() -> None:
    report = json.loads(json.dumps(compared(ArmName.CONTEXT, ArmName.ADAPTER).as_dict()))

    assert (report["data"], report["n"], report["seed"]) == ("rivers", 4, 0)
    assert list(report["arms"]) == ["context", "context+quote", "adapter", "adapter+quote"]
    for arm in report["arms"].values():
        for metric in ("f1", "exact_match", "rouge_l"):
            assert arm[metric] == {"mean": 1, "low": 1, "high": 1}
        assert arm["relative_to_context"] == 1


def test_without_context_nothing_is_relative_to_it() -> None:
    assert compared(ArmName.ADAPTER).as_dict()["arms"]["adapter"]["relative_to_context"] is None


def test_rows_say_what_was_answered() -> None:
    report = compared(ArmName.WRONG_ADAPTER)

    for row in report.rows:
        assert row.answers == (RIVERS[row.passage],)
        outcome = row.outcomes["wrong-adapter"]
        assert outcome.answer in RIVERS.values()
        assert (outcome.scores.f1, outcome.route) == (0, "wrong-adapter")
        assert outcome.confidence == pytest.approx(0.8187, abs=1e-4)
        json.dumps(row.as_dict())


def test_long_prompts_count_as_wrong_and_leave_the_others_alone() -> None:
    long, *short = passages()
    long = Passage(id=long.id, context=long.context + " Filler." * 9, qas=long.qas)

    report = compared(
        ArmName.CONTEXT, generator=ScriptedGenerator(longest=80), questions=sample([long, *short])
    )

    assert (report.arms["context"].failed, report.arms["context"].f1.mean) == (1, 0.75)
    assert [row.outcomes["context"].error for row in report.rows if row.passage == long.id] == [
        "The prompt is too long."
    ]


def test_passages_without_an_adapter_are_told_and_count_as_wrong(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from hybridqa.errors import DocumentTooLongError

    def refuse(self: object, document: Document, chunks: Sequence[Chunk]) -> Internalized:
        raise DocumentTooLongError(document.id, 9, 8)

    monkeypatch.setattr(StampingInternalizer, "internalize", refuse)
    report = compared(ArmName.ADAPTER)

    assert set(report.warnings) == set(RIVERS)
    assert (report.arms["adapter"].failed, report.arms["adapter"].f1.mean) == (4, 0)


def test_batches_are_no_larger_than_asked() -> None:
    generator = ScriptedGenerator()
    compared(ArmName.BASE, generator=generator, batch_size=3)

    assert [len(batch) for batch in generator.batches] == [3, 1, 3, 1]


def test_long_passages_make_small_batches() -> None:
    generator = ScriptedGenerator(longest=100_000)
    compared(ArmName.CONTEXT, generator=generator, questions=sample(passages(words=2500)))

    assert max(map(len, generator.batches)) == 2


def test_unknown_and_impossible_arms_are_refused() -> None:
    with pytest.raises(InputError, match=r"no arm `contxt`.* base, context, adapter, wrong-"):
        parse_arms(["base", "contxt"])
    with pytest.raises(InputError, match="No arm is named"):
        parse_arms([])
    assert parse_arms(["both", " base", "both"]) == (ArmName.BOTH, ArmName.BASE)
    with pytest.raises(InputError, match="`wrong-adapter` needs 2 passages"):
        compared(ArmName.WRONG_ADAPTER, questions=sample(passages(), 1))
    none = Config(model=CONFIG.model, internalize=InternalizeConfig(internalizer="none"))
    with pytest.raises(InputError, match="adapter, auto wear adapters"):
        compared(ArmName.AUTO, ArmName.ADAPTER, config=none)
    with pytest.raises(InputError, match="batch size must be at least 1"):
        run_qa(CONFIG, "unread.jsonl", batch_size=0)


def test_reports_show_every_arm() -> None:
    report = compared(*ArmName)
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(table(report), differences(report))
    drawn, written = console.export_text(), markdown(report)

    for name in report.arms:
        assert f" {name} " in drawn
        assert f"| `{name}` |" in written
    assert "1.000 (1.000–1.000)" in drawn
    assert "adapter - wrong-adapter" in drawn


@pytest.mark.real
def test_the_embedded_model_reads(tmp_path: Path) -> None:
    file = tmp_path / "facts.jsonl"
    facts = {
        "The Hale bridge was opened in 1904 by Ada Quill.": ("Who opened it?", "Ada Quill"),
        "Brindle cheese is made from the milk of goats.": ("Which animal gives milk?", "goats"),
        "The library closes at nine on Fridays.": ("When does the library close?", "nine"),
        "Mount Orrin is 2,310 metres high.": ("How high is Mount Orrin?", "2,310 metres"),
    }
    rows = [
        {"id": str(n), "context": text, "qas": [{"question": question, "answers": [gold]}]}
        for n, (text, (question, gold)) in enumerate(facts.items())
    ]
    file.write_text("\n".join(map(json.dumps, rows)))

    report = run_qa(Config(), file, ["context", "adapter", "wrong-adapter"])

    assert report.arms["context+quote"].f1.mean > 0.5
    assert report.arms["adapter"].failed == 0
    assert report.arms["adapter+quote"].f1.mean > report.arms["wrong-adapter+quote"].f1.mean
    assert set(DEFAULT_ARMS) == set(ArmName) - {ArmName.AUTO}
