import pytest

from hybridqa.engines.meter import Meter
from hybridqa.models.generator import TorchGenerator
from hybridqa.protocols import Prompt
from hybridqa.testing import FakeGenerator, tiny_model


def test_the_tokens_of_all_calls_are_summed() -> None:
    base = tiny_model()
    generator = TorchGenerator(base)
    alone = Prompt(question="What is the gate code?", max_tokens=4)
    passage = "The gate code is walnut. Rain fell on the old town."
    check = Prompt(question=alone.question, passages=(passage,), max_tokens=0)
    meter = Meter(generator, lambda text: len(base.plain_ids(text)))

    answer = meter.generate(alone)

    written = len(answer.token_ids)
    assert 1 <= written <= 4
    assert (meter.prompt_tokens, meter.completion_tokens) == (answer.prompt_tokens, written)

    likelihood = meter.score(check, answer)

    assert likelihood == pytest.approx(generator.score([check], [answer.text])[0])
    read = len(generator.prompt_ids(alone)) + len(generator.prompt_ids(check)) + written
    assert (meter.prompt_tokens, meter.completion_tokens) == (read, written)

    again = meter.generate(alone)

    assert meter.prompt_tokens == read + again.prompt_tokens
    assert meter.completion_tokens == written + len(again.token_ids)


def test_the_time_of_generating_is_noted() -> None:
    meter = Meter(FakeGenerator())

    meter.generate(Prompt(question="What?"))

    timings = meter.watch.timings_ms()
    assert timings.keys() == {"generate", "first_token", "total"}
    assert 0 <= timings["generate"] <= timings["total"]
