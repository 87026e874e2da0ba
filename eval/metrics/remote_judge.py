"""A judge behind any OpenAI-compatible endpoint."""

from __future__ import annotations

import warnings
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import SplitResult, urlsplit

from hybridqa.errors import InputError
from hybridqa.eval.metrics.ragas_metrics import collections

KEY_VARIABLES = ("HYBRIDQA_JUDGE_API_KEY", "OPENAI_API_KEY")
"""Environment variables that may hold the key; the first that is set counts."""

_REPAIRS = 2
"""Times that an answer which is not the JSON asked for is sent back to be mended."""


class RemoteJudge:
    """A `judging.Judge`; what it costs is between you and the endpoint."""

    plumbing = False

    def __init__(
        self,
        base_url: str,
        model: str,
        environment: Mapping[str, str],
        timeout_s: float = 60.0,
        retries: int = 2,
        concurrency: int = 4,
        max_tokens: int = 4096,
    ) -> None:
        """Note the address; nothing is sent yet.

        Args:
            base_url: Up to and without `/chat/completions`, e.g. `https://api.openai.com/v1`.
            model: As the endpoint names it.
            environment: Of the process; read for `KEY_VARIABLES`. A server of your own may need
                no key.
            timeout_s: Of one request.
            retries: Of a request that failed in transit or was told to come back later.
            concurrency: Requests in flight.
            max_tokens: Of one reply.

        Raises:
            InputError: An argument cannot be used.
        """
        address = _address(base_url)
        if not model.strip():
            raise InputError("The judge's model is empty. Name one that its endpoint serves.")
        if timeout_s <= 0 or retries < 0 or concurrency < 1 or max_tokens < 1:
            raise InputError(
                "The judge's timeout must be above 0 s, its retries at least 0, concurrency and "
                f"tokens at least 1; got {timeout_s}, {retries}, {concurrency} and {max_tokens}."
            )
        self.name, self.concurrency = model, concurrency
        self.endpoint = address._replace(
            netloc=address.netloc.rpartition("@")[2], query=""
        ).geturl()
        self._key = _key(environment)
        self._max_tokens = max_tokens
        self._client: dict[str, Any] = {
            "base_url": base_url,
            "api_key": self._key or "none",  # the client insists on one
            "timeout": timeout_s,
            "max_retries": retries,
        }

    def check(self) -> None:
        """Look for the model in the endpoint's list, else ask it for one token.

        Raises:
            InputError: The endpoint does not answer, refuses the key, does not know the model.
        """
        collections()  # says so if openai, which comes with RAGAS, is not installed
        import openai

        listed: list[str] = []
        with openai.OpenAI(**self._client) as client:
            try:
                listed = _models(client)
                if self.name not in listed:
                    reply = client.chat.completions.create(
                        model=self.name,
                        messages=[{"role": "user", "content": "Say yes."}],
                        max_tokens=1,
                    )
                    if not getattr(reply, "choices", None):  # such as a web page
                        raise openai.OpenAIError("its reply is no chat completion")
            except openai.APIConnectionError as exc:
                raise InputError(
                    f"The judge at `{self.endpoint}` cannot be reached within "
                    f"{self._client['timeout']:g} s: {exc.__cause__ or exc}. Check the address, "
                    "and that the server is up."
                ) from exc
            except (openai.AuthenticationError, openai.PermissionDeniedError) as exc:
                given = "refuses the API key given" if self._key else "wants an API key"
                raise InputError(
                    f"The judge at `{self.endpoint}` {given} ({exc.status_code}). Set the "
                    f"environment variable {KEY_VARIABLES[0]} (or {KEY_VARIABLES[1]}) to a valid "
                    "one."
                ) from exc
            except openai.OpenAIError as exc:
                there_are = f" It serves {', '.join(listed[:10])}." if listed else ""
                raise InputError(
                    f"The judge at `{self.endpoint}` cannot be asked with the model "
                    f"`{self.name}`: {exc}.{there_are} Check the model's name and the address."
                ) from exc

    @asynccontextmanager
    async def session(self, seed: int | None) -> AsyncIterator[Any]:
        """Lend RAGAS's own client; see `judging.Judge`. The seed itself is not sent."""
        from openai import AsyncOpenAI
        from ragas.llms import llm_factory

        async with AsyncOpenAI(**self._client) as client:
            with warnings.catch_warnings():  # RAGAS leaves a file open
                warnings.simplefilter("ignore", ResourceWarning)
                llm = llm_factory(
                    self.name,
                    client=client,
                    max_tokens=self._max_tokens,
                    max_retries=_REPAIRS,
                    temperature=0.0 if seed is None else 0.7,
                    top_p=1.0,
                )
            yield llm


def _address(url: str) -> SplitResult:
    try:
        address = urlsplit(url)
        usable = address.scheme in ("http", "https") and bool(address.hostname)
    except ValueError:
        usable = False
    if not usable:
        raise InputError(
            f"The judge's address `{url}` is not an http(s) URL. Give one such as "
            "`https://api.openai.com/v1` or `http://localhost:8000/v1`."
        )
    return address


def _key(environment: Mapping[str, str]) -> str | None:
    for name in KEY_VARIABLES:
        if key := environment.get(name, "").strip():
            if not (key.isascii() and key.isprintable()):
                raise InputError(
                    f"The API key in {name} holds a character that no key has. Set it anew."
                )
            return key
    return None


def _models(client: Any) -> list[str]:
    """Return the models that an endpoint says it serves; none where it keeps no such list."""
    import openai

    try:
        return [str(model.id) for model in client.models.list().data]
    except (openai.APIConnectionError, openai.AuthenticationError, openai.PermissionDeniedError):
        raise
    except (openai.OpenAIError, AttributeError, TypeError, ValueError):
        return []
