"""Requests from many threads in one batch, against the same requests alone."""

import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch

from hybridqa.errors import QuestionError
from hybridqa.models.batching import BatchingGenerator
from hybridqa.models.decoding import Batch, Row
from hybridqa.models.generator import TorchGenerator
from hybridqa.models.prefixes import Prefix
from hybridqa.protocols import Expert, Prompt
from hybridqa.testing import tiny_model
from hybridqa.types import Adapter, LoraLayer

BASE = tiny_model()
ALONE = TorchGenerator(BASE, stop_tokens=())
PASSAGES = ("The mill at Arle was built in 1712 and burned down twice. " * 3, "It grinds rye. " * 9)


class Watched(TorchGenerator):
    """Counts the rows of every batch that is opened, and the tokens read; can be made to fail."""

    def __init__(self) -> None:
        super().__init__(BASE, stop_tokens=(), prefix_bytes=512_000_000)
        self.opened: list[int] = []
        self.read: list[int] = []
        self.most_rows = 0
        self.error: Exception | None = None
        self.hold = threading.Event()
        self.hold.set()

    def batch(self, rows: Sequence[Row], known: Sequence[Prefix | None] = ()) -> Batch:
        self.hold.wait(10)
        if self.error:
            raise self.error
        self.opened.append(len(rows))
        had = [len(prefix.ids) if prefix else 0 for prefix in known] or [0] * len(rows)
        self.read += [len(row.prompt) - count for row, count in zip(rows, had, strict=True)]
        made = super().batch(rows, known)
        step = made.step

        def counted() -> None:
            self.most_rows = max(self.most_rows, len(made.rows))
            step()

        made.step = counted  # type: ignore[method-assign]
        return made


@pytest.fixture
def watched() -> Watched:
    return Watched()


@pytest.fixture
def batching(watched: Watched) -> Iterator[BatchingGenerator]:
    generator = BatchingGenerator(watched, max_rows=4)
    yield generator
    watched.hold.set()
    generator.close()


def adapter(seed: int) -> Adapter:
    generator = torch.Generator().manual_seed(seed)
    down, up = torch.randn(2, 64, generator=generator), torch.randn(32, 2, generator=generator)
    return Adapter(
        f"{seed}", {"model.layers.2.mlp.down_proj": LoraLayer(down, up)}, BASE.fingerprint
    )


READER = Adapter("reader", {}, BASE.fingerprint, passages_apart=True)


def prompts() -> list[Prompt]:
    found = []
    for n in range(24):
        found.append(
            Prompt(
                question="Why? " * (n % 5 + 1),
                passages=PASSAGES[: n % 3],
                adapters=[adapter(n % 4)] if n % 4 else [],
                quote_from=PASSAGES if n % 2 else None,
                pool=[
                    Expert(prompt=Prompt(question="Where?", adapters=[adapter(m)]), weight=0.2)
                    for m in range(n % 3)
                ],
                max_tokens=3 + n % 7,
                realm=str(n % 2),
            )
        )
    return found


def ask(generator: BatchingGenerator, asked: Sequence[Prompt]) -> list[Any]:
    with ThreadPoolExecutor(len(asked)) as pool:
        return [found[0] for found in pool.map(lambda prompt: generator.generate([prompt]), asked)]


def test_each_request_gets_the_answer_it_gets_alone(
    batching: BatchingGenerator, watched: Watched
) -> None:
    asked = prompts()
    alone = [ALONE.generate([prompt])[0] for prompt in asked]

    for _ in range(3):  # the second time beginnings of prompts are known
        together = ask(batching, asked)

        assert [(g.text, g.token_ids, g.span) for g in together] == [
            (g.text, g.token_ids, g.span) for g in alone
        ]
        for found, expected in zip(together, alone, strict=True):
            assert found.logprobs == pytest.approx(expected.logprobs, abs=1e-3)
            assert found.prompt_tokens == expected.prompt_tokens
    assert watched.most_rows > 1


def test_a_request_joins_while_another_is_being_answered(
    batching: BatchingGenerator, watched: Watched
) -> None:
    long = Prompt(question="Long?", max_tokens=400)
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(batching.generate, [long])
        while not watched.opened:
            time.sleep(0.001)

        short = batching.generate([Prompt(question="Short?", max_tokens=2)])[0]

        assert not slow.done()
        assert short.text == ALONE.generate([Prompt(question="Short?", max_tokens=2)])[0].text
        assert slow.result()[0].token_ids == ALONE.generate([long])[0].token_ids


def test_no_more_rows_than_allowed_are_worked_on(
    batching: BatchingGenerator, watched: Watched
) -> None:
    watched.hold.clear()
    with ThreadPoolExecutor(10) as pool:
        asked = [Prompt(question=f"Number {n}?", max_tokens=4) for n in range(10)]
        running = [pool.submit(batching.generate, [prompt]) for prompt in asked]
        time.sleep(0.05)
        watched.hold.set()
        assert all(future.result() for future in running)

    assert 1 < watched.most_rows <= 4


def test_what_a_prompt_begins_with_is_read_once(
    batching: BatchingGenerator, watched: Watched
) -> None:
    def read(
        question: str,
        realm: str = "",
        worn: Sequence[Adapter] = (READER,),
        passages: Sequence[str] = PASSAGES,
    ) -> int:
        watched.read.clear()
        prompt = Prompt(
            question=question, passages=passages, adapters=worn, max_tokens=2, realm=realm
        )
        batching.generate([prompt])
        return sum(watched.read)

    whole = read("What does it grind?")

    assert read("When was it built?") < whole / 4
    assert read("When was it built?", passages=PASSAGES[::-1]) < whole / 4
    assert read("When was it built?", passages=PASSAGES[1:]) < whole / 4
    assert read("What does it grind?", realm="of another tenant") == whole
    assert read("What does it grind?", worn=[READER, adapter(1)]) == whole
    batching.forget("")
    assert read("What does it grind?", realm="of another tenant") < whole / 4
    assert read("What does it grind?") == whole


def test_what_was_read_to_judge_an_answer_is_not_read_again(
    batching: BatchingGenerator, watched: Watched
) -> None:
    judged = Prompt(question="What does it grind?", passages=PASSAGES[:1])
    batching.score([judged], ["rye"])
    known = len(ALONE.prompt_ids(Prompt(question="", passages=PASSAGES[:1])))
    watched.read.clear()

    several = Prompt(question="What does it grind?", passages=PASSAGES, max_tokens=1)
    batching.generate([several])

    assert sum(watched.read) < len(ALONE.prompt_ids(several)) - known / 2


def test_scores_are_the_same_with_known_beginnings(batching: BatchingGenerator) -> None:
    prompt = Prompt(question="What does it grind?", passages=PASSAGES, max_tokens=2)
    batching.generate([prompt])

    found = batching.score([prompt, prompt], ["rye", "a mill"])

    assert found == pytest.approx(ALONE.score([prompt, prompt], ["rye", "a mill"]), rel=1e-3)


def test_a_bad_prompt_is_told_to_its_caller_alone(batching: BatchingGenerator) -> None:
    with pytest.raises(QuestionError, match="exceeds the model's context"):
        batching.generate([Prompt(question="x" * 10_000)])

    assert batching.generate([Prompt(question="Why?", max_tokens=2)])


def test_an_error_of_the_model_is_told_and_the_next_request_is_answered(
    batching: BatchingGenerator, watched: Watched
) -> None:
    watched.error = RuntimeError("out of memory")
    with pytest.raises(RuntimeError, match="out of memory"):
        batching.generate([Prompt(question="Why?")])
    watched.error = None

    assert batching.generate([Prompt(question="Why?", max_tokens=2)])


def test_closing_answers_what_was_asked(watched: Watched) -> None:
    generator = BatchingGenerator(watched)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(generator.generate, [Prompt(question="Long?", max_tokens=200)])
        while not watched.opened:
            time.sleep(0.001)
        generator.close()

        assert len(running.result()[0].token_ids) == 200
    with pytest.raises(RuntimeError, match="closed"):
        generator.generate([Prompt(question="Why?")])


def test_judgements_are_the_same_together(batching: BatchingGenerator) -> None:
    asked = prompts()[:3]
    answers = [("rye", "a mill"), ("1712",), ("twice", "rye", "at Arle")]
    alone = [ALONE.judge([prompt], [said])[0] for prompt, said in zip(asked, answers, strict=True)]

    with ThreadPoolExecutor(3) as pool:
        found = list(
            pool.map(
                lambda each: batching.judge([each[0]], [each[1]])[0],
                zip(asked, answers, strict=True),
            )
        )

    for one, other in zip(found, alone, strict=True):
        assert one.loglikelihoods == pytest.approx(other.loglikelihoods, abs=1e-2)
        assert one.prompt_tokens == other.prompt_tokens
