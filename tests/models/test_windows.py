"""Passages are read apart, beside a reference that masks them from each other in one pass."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch

from hybridqa.models.generator import TorchGenerator
from hybridqa.protocols import Prompt
from hybridqa.testing import tiny_model
from hybridqa.types import Adapter, LoraLayer

BASE = tiny_model()
GENERATOR = TorchGenerator(BASE, stop_tokens=())
PASSAGES = ["The mill at Arle was built in 1712.", "It grinds rye.", "Barley is ground at Oss."]
QUESTION = "What does it grind?"
READER = Adapter("reader", {}, BASE.fingerprint, passages_apart=True)
"""Changes nothing but how passages are read."""
BEGINNING = "<|im_start|>user\n"


def expected_logprobs(passages: Sequence[str], question: str, answer: Sequence[int]) -> list[float]:
    """Return the answer's, of the bare model under a mask."""
    pieces = [BEGINNING, *(f"{passage}\n\n" for passage in passages)]
    pieces.append(f"{question}<|im_end|>\n<|im_start|>assistant\n")
    tokens = [BASE.chat_ids(piece) for piece in pieces]
    tokens[-1] = tokens[-1] + list(answer)
    first = len(tokens[0])
    longest = max(map(len, tokens[1:-1]))
    starts = [0, *[first for _ in passages], first + longest]
    ids = torch.tensor([[token for piece in tokens for token in piece]])
    at = torch.tensor(
        [
            [
                start + n
                for start, piece in zip(starts, tokens, strict=True)
                for n in range(len(piece))
            ]
        ]
    )
    number = torch.tensor([n for n, piece in enumerate(tokens) for _ in piece])
    seen = torch.ones(len(number), len(number), dtype=torch.bool).tril()
    seen &= (
        (number[:, None] == number[None])
        | (number == 0)[None]
        | (number == len(tokens) - 1)[:, None]
    )
    with torch.no_grad():
        logits = BASE.model(input_ids=ids, position_ids=at, attention_mask=seen[None, None]).logits[
            0
        ]
    found = logits.log_softmax(-1)[-len(answer) - 1 : -1]
    return found.gather(1, torch.tensor(answer)[:, None])[:, 0].tolist()


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("order", [1, -1])
def test_passages_do_not_see_each_other(count: int, order: int) -> None:
    passages = PASSAGES[:count][::order]
    prompt = Prompt(question=QUESTION, passages=passages, max_tokens=5, adapters=[READER])
    (found,) = GENERATOR.generate([prompt])

    expected = expected_logprobs(passages, QUESTION, found.token_ids)
    assert list(found.logprobs) == pytest.approx(expected, abs=1e-4)


def test_the_order_of_passages_does_not_matter() -> None:
    prompts = [
        Prompt(question=QUESTION, passages=passages, adapters=[READER])
        for passages in (PASSAGES, PASSAGES[::-1], [PASSAGES[1], PASSAGES[2], PASSAGES[0]])
    ]
    scores = [GENERATOR.score([prompt], ["rye"])[0] for prompt in prompts]

    assert scores == pytest.approx([scores[0]] * 3, rel=1e-4)


def test_rows_of_one_and_of_several_passages_share_a_batch() -> None:
    asked = [
        Prompt(question=question, passages=PASSAGES[:count], max_tokens=4, adapters=[READER])
        for question, count in [("Why?", 0), ("Who?", 1), (QUESTION, 3), ("When was that?", 2)]
    ]
    alone = [GENERATOR.generate([prompt])[0] for prompt in asked]

    for found, expected in zip(GENERATOR.generate(asked), alone, strict=True):
        assert found.token_ids == expected.token_ids
        assert found.logprobs == pytest.approx(expected.logprobs, abs=1e-4)


def test_a_passage_read_without_an_adapter_is_read_anew_with_it() -> None:
    cached = TorchGenerator(BASE, stop_tokens=(), prefix_bytes=10_000_000)
    layer = LoraLayer(torch.ones(1, 64), torch.ones(32, 1))
    worn = Adapter("a", {"model.layers.0.mlp.down_proj": layer}, BASE.fingerprint)
    bare = Prompt(question=QUESTION, passages=PASSAGES, max_tokens=3, adapters=[READER])
    wearing = replace(bare, adapters=[READER, worn])

    for prompt in (bare, wearing, bare):
        (found,), (expected,) = cached.generate([prompt]), GENERATOR.generate([prompt])
        assert found.logprobs == pytest.approx(expected.logprobs, abs=1e-4)


def test_windows_that_were_judged_side_by_side_are_no_beginning_of_a_prompt() -> None:
    cached = TorchGenerator(BASE, stop_tokens=(), prefix_bytes=10_000_000)
    passages = [passage * 5 for passage in PASSAGES]
    cached.score([Prompt(question=QUESTION, passages=passages, adapters=[READER])], ["rye"])

    one = ["\n\n".join(passages)]
    prompt = Prompt(question=QUESTION, passages=one, max_tokens=5, adapters=[READER])
    (found,), (expected,) = cached.generate([prompt]), GENERATOR.generate([prompt])

    assert found.logprobs == pytest.approx(expected.logprobs, abs=1e-4)


def test_whoever_was_not_trained_so_reads_passages_in_order() -> None:
    prompt = Prompt(question=QUESTION, passages=PASSAGES, max_tokens=5)
    content = "\n\n".join([*PASSAGES, QUESTION])
    together = replace(prompt, question=content, passages=())

    (found,), (expected,) = GENERATOR.generate([prompt]), GENERATOR.generate([together])

    assert found.logprobs == pytest.approx(expected.logprobs, abs=1e-4)
