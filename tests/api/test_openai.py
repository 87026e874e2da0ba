"""The official client against the service."""

import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest
import uvicorn

from hybridqa.api.app import create_app, create_service
from tests.api.conftest import BRIDGE, LAMP, Serving, fake_config, fake_models

ROOT = Path(__file__).parents[2]
WHO = [{"role": "user", "content": "Who designed the Corvane lamp?"}]
SENTENCE = "The Corvane lamp was designed by Ilse Marrow in 1987."


@pytest.fixture
def known(serving: Serving) -> Serving:
    serving.know(lamp=LAMP, bridge=BRIDGE)
    return serving


@pytest.fixture
def client(known: Serving) -> openai.OpenAI:
    # The test client is an httpx client, so the official one sends what it would send.
    return openai.OpenAI(
        base_url="http://localhost/v1",
        api_key="unused",
        http_client=Transport(known),
        max_retries=0,
    )


class Transport(openai.DefaultHttpxClient):
    """Sends requests into the app instead of over the network."""

    def __init__(self, serving: Serving) -> None:
        super().__init__(transport=serving.client._transport)


def ask(client: openai.OpenAI, **changes: object) -> object:
    return client.chat.completions.create(**{"model": "hybridqa", "messages": WHO, **changes})


def test_an_answer_has_its_citation_as_an_annotation(client: openai.OpenAI) -> None:
    completion = ask(client)

    choice = completion.choices[0]
    assert choice.message.content == SENTENCE
    assert choice.finish_reason == "stop"
    (annotation,) = choice.message.annotations
    cited = annotation.url_citation
    assert choice.message.content[cited.start_index : cited.end_index] == SENTENCE
    assert cited.url == f"http://localhost/v1/documents/lamp#char=0,{len(SENTENCE)}"
    assert completion.usage.total_tokens == (
        completion.usage.prompt_tokens + completion.usage.completion_tokens
    )
    assert completion.model_extra["hybridqa"]["arm"] == "adapter"


def test_a_stream_joins_to_the_same_answer(client: openai.OpenAI) -> None:
    chunks = list(ask(client, stream=True, stream_options={"include_usage": True}))

    deltas = [chunk.choices[0].delta for chunk in chunks if chunk.choices]
    assert deltas[0].role == "assistant"
    assert "".join(delta.content or "" for delta in deltas) == SENTENCE
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
    assert deltas[-1].model_extra["annotations"][0]["url_citation"]["title"] == "lamp"
    assert chunks[-1].usage.total_tokens > 0
    assert len({chunk.id for chunk in chunks}) == 1


def test_a_model_is_an_arm(client: openai.OpenAI) -> None:
    names = [model.id for model in client.models.list()]
    assert names[0] == "hybridqa"
    assert client.models.retrieve("hybridqa-retrieval").id == "hybridqa-retrieval"

    completion = ask(client, model="hybridqa-retrieval")

    assert completion.model_extra["hybridqa"]["arm"] == "retrieval"


def test_the_last_message_is_the_question(client: openai.OpenAI) -> None:
    turns = [
        {"role": "system", "content": "You are helpful."},
        *WHO,
        {"role": "assistant", "content": SENTENCE},
        {
            "role": "user",
            "content": [{"type": "text", "text": "When was the Tamsin bridge opened?"}],
        },
    ]

    assert ask(client, messages=turns).choices[0].message.content == (
        "The Tamsin bridge was opened in 1931."
    )


def test_documents_can_be_named(client: openai.OpenAI) -> None:
    completion = ask(
        client, model="hybridqa-retrieval", extra_body={"hybridqa": {"documents": ["bridge"]}}
    )

    assert "Corvane" not in completion.choices[0].message.content
    with pytest.raises(openai.NotFoundError, match="no document `nowhere`"):
        ask(client, extra_body={"hybridqa": {"documents": ["nowhere"]}})


def test_an_abstention_says_so(client: openai.OpenAI, known: Serving) -> None:
    known.answer = lambda question, texts: ""

    completion = ask(client)

    assert completion.choices[0].message.content == "The documents do not say."
    assert completion.choices[0].message.annotations == []
    assert completion.model_extra["hybridqa"]["abstained"] is True


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"n": 2}, "n"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
        ({"logprobs": True}, "logprobs"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"max_tokens": 3}, "max_tokens"),
        ({"max_completion_tokens": 3}, "max_completion_tokens"),
    ],
)
def test_what_is_not_supported_is_named(
    client: openai.OpenAI, changes: dict[str, object], named: str
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, **changes)

    assert caught.value.param == named
    assert caught.value.code == "unsupported_parameter"


def test_what_has_no_effect_is_taken(client: openai.OpenAI) -> None:
    completion = ask(client, temperature=0.3, top_p=0.9, seed=1, user="me", max_tokens=500)

    assert completion.choices[0].message.content == SENTENCE


@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "assistant", "content": "I ask."}],
        [{"role": "user", "content": ""}],
        [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x:"}}]}],
        [{"role": "user", "content": "long " * 200}],
        [],
    ],
)
def test_messages_that_ask_nothing_are_refused(
    client: openai.OpenAI, messages: list[object]
) -> None:
    with pytest.raises(openai.BadRequestError):
        ask(client, messages=messages)
    with pytest.raises(openai.BadRequestError):
        ask(client, messages=messages, stream=True)


def test_an_unknown_model_is_not_found(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        ask(client, model="gpt-5")
    assert caught.value.code == "model_not_found"


def test_a_wrong_key_is_an_authentication_error(guarded: Serving) -> None:
    stranger = openai.OpenAI(
        base_url="http://localhost/v1",
        api_key="hqa_0_0",
        http_client=Transport(guarded),
        max_retries=0,
    )

    with pytest.raises(openai.AuthenticationError, match="not valid"):
        ask(stranger)


def test_too_many_questions_are_a_rate_limit(client: openai.OpenAI, known: Serving) -> None:
    from contextlib import ExitStack

    with ExitStack() as full:
        for _ in range(known.service.limits.max_asking_by_tenant):
            full.enter_context(known.service.gate.entered("default"))
        with pytest.raises(openai.RateLimitError) as caught:
            ask(client)
        assert int(caught.value.response.headers["Retry-After"]) >= 1
    assert ask(client)


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    config = fake_config()
    service = create_service(tmp_path / "home", config, fake_models(config), auth=False)
    server = uvicorn.Server(uvicorn.Config(create_app(service), port=0, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    qa = service.tenants.get("default").qa
    from hybridqa.types import Document

    qa.ingest(Document(id="rules", text="The notice period is 6 weeks.", title="R", source="r"))
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join(10)


def test_the_readme_asks_it_like_this(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```py\n(.*?)```", readme, re.DOTALL)

    exec(compile(block.replace("http://127.0.0.1:8000", url), "README.md", "exec"), {})

    assert "6 weeks" in capsys.readouterr().out
