"""Run the model for one question, and add up what that takes."""

from __future__ import annotations

from collections.abc import Callable

from hybridqa.engines.stopwatch import Stopwatch
from hybridqa.protocols import Generation, Generator, Prompt


class Meter:
    """A generator with the time and the tokens of all its calls for one question."""

    def __init__(
        self, generator: Generator, count_tokens: Callable[[str], int] | None = None
    ) -> None:
        """Start the clock.

        Args:
            generator: Runs the model.
            count_tokens: Of a text; for `score`, where the generator tells none. Without it,
                passages that are read there are left out of the sum.
        """
        self._generator, self._count_tokens = generator, count_tokens
        self.watch = Stopwatch()
        self.prompt_tokens = 0
        self.completion_tokens = 0

    def generate(self, prompt: Prompt) -> Generation:
        before_s = self.watch.elapsed_s
        with self.watch.stage("generate"):
            generation = self._generator.generate([prompt])[0]
        self.watch.note("first_token", before_s + generation.first_token_s)
        self.prompt_tokens += generation.prompt_tokens
        self.completion_tokens += len(generation.token_ids)
        return generation

    def score(self, prompt: Prompt, answer: Generation) -> float:
        """Return how likely the model finds an answer, which it gave to the question alone.

        It reads that prompt again, with passages before the question, and then the answer.
        """
        self.prompt_tokens += answer.prompt_tokens + len(answer.token_ids)
        if self._count_tokens is not None:
            self.prompt_tokens += sum(
                self._count_tokens(f"{passage}\n\n") for passage in prompt.passages
            )
        return self._generator.score([prompt], [answer.text])[0]
