"""The real client, instructor and RAGAS against a server that replays chat completions."""

import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest

from hybridqa.errors import InputError
from hybridqa.eval.metrics.judging import judge_answers
from hybridqa.eval.metrics.remote_judge import RemoteJudge
from hybridqa.eval.rows import JudgementRow
from hybridqa.testing import FakeEmbedder

KEY = {"HYBRIDQA_JUDGE_API_KEY": "right", "OPENAI_API_KEY": "wrong"}
ALL = ("faithfulness", "response_groundedness", "answer_relevancy", "answer_correctness")
ALL += ("factual_correctness", "llm_context_precision", "llm_context_recall")

Reply = Callable[[str], str]
_VAGUE = "Well, it depends."


class Endpoint:
    """What a server was asked, and how it behaves."""

    def __init__(self, reply: Reply, lists_models: bool = True) -> None:
        self.reply, self.lists_models = reply, lists_models
        self.url = ""
        self.requests: list[dict[str, Any]] = []

    def answer(self, request: BaseHTTPRequestHandler) -> tuple[int, dict[str, Any]]:
        if request.headers["Authorization"] != "Bearer right":
            return 401, _error("Incorrect API key provided.")
        if request.command == "GET":
            listed = {"object": "list", "data": [{"id": "wise-1", "object": "model"}]}
            return (200, listed) if self.lists_models else (404, _error("No such path."))
        body = json.loads(request.rfile.read(int(request.headers["Content-Length"])))
        self.requests.append(body)
        if body["model"] != "wise-1":
            return 404, _error(f"The model `{body['model']}` does not exist.")
        prompt = "\n".join(message["content"] for message in body["messages"])
        return 200, _completion("yes" if prompt == "Say yes." else self.reply(prompt))


def _error(message: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": "invalid_request_error", "code": None}}


def _completion(content: str) -> dict[str, Any]:
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1763800000,
        "model": "wise-1",
        "choices": [
            {
                "index": 0,
                "finish_reason": "stop",
                "logprobs": None,
                "message": {"role": "assistant", "content": content, "refusal": None},
            }
        ],
        "usage": {"prompt_tokens": 700, "completion_tokens": 40, "total_tokens": 740},
    }


@contextmanager
def serving(endpoint: Endpoint) -> Iterator[Endpoint]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = endpoint.answer(self)
            data = json.dumps(body).encode()
            try:
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)
            except OSError:  # the client did not wait
                self.close_connection = True

        do_POST = do_GET  # noqa: N815

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        endpoint.url = f"http://127.0.0.1:{server.server_port}/v1"
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield endpoint
        server.shutdown()
        thread.join()


def judged(judge: RemoteJudge, asked: Any, metrics: tuple[str, ...] = ALL) -> list[JudgementRow]:
    rows: list[JudgementRow] = []
    judge_answers(
        judge=judge,
        metrics=metrics,
        questions=asked.questions,
        answers=asked.answers[:2],
        documents=asked.documents,
        embedder=FakeEmbedder(4096),
        done=(),
        append=rows.extend,
        seed=0,
        limit=None,
        repeats=1,
        progress=lambda *_: None,
    )
    return rows


def test_known_values(asked: Any, reply: Reply) -> None:
    with serving(Endpoint(reply)) as endpoint:
        rows = judged(RemoteJudge(endpoint.url, "wise-1", KEY), asked)

    assert [row.error for row in rows] == [None] * 21  # two arms, and one of them again
    found = {row.metric: row.value for row in rows if row.arm == "retrieval"}
    assert found == pytest.approx(
        {
            "faithfulness": 1 / 2,
            "response_groundedness": 3 / 4,
            "answer_relevancy": 1,
            "answer_correctness": 0.75 * 2 / 3 + 0.25 * 2 / (9 * 2) ** 0.5,
            "factual_correctness": 0.67,
            "llm_context_precision": 1 / 2,
            "llm_context_recall": 1 / 2,
        },
        abs=1e-5,
    )
    assert {body["temperature"] for body in endpoint.requests} == {0.0, 0.7}


def test_garbage_is_sent_back_to_be_mended(asked: Any, reply: Reply) -> None:
    def mumbling(prompt: str) -> str:  # until it is shown what was wrong
        return reply(prompt) if "it depends" in prompt.lower().rpartition("output:")[2] else _VAGUE

    with serving(Endpoint(mumbling)) as endpoint:
        judge = RemoteJudge(endpoint.url, "wise-1", KEY)
        (row, *_) = judged(judge, asked, ("answer_relevancy",))

    assert row.value == 1
    assert len(endpoint.requests) == 2 * 3 * 2  # once and again, three questions, in two attempts


def test_garbage_without_end_fails_item_by_item(asked: Any) -> None:
    with serving(Endpoint(lambda _: _VAGUE)) as endpoint:
        rows = judged(RemoteJudge(endpoint.url, "wise-1", KEY), asked)

    assert {row.value for row in rows} == {None}
    assert all("ValidationError" in row.error for row in rows)
    assert all("\n" not in row.error and len(row.error) <= 300 for row in rows)


def test_half_of_the_items_fail_and_the_others_count(asked: Any, reply: Reply) -> None:
    def unsure(prompt: str) -> str:
        return _VAGUE if any(part in prompt for part in half) else reply(prompt)

    half = ("groundedness of an assertion", "attributed to the given context", "TP (true")
    with serving(Endpoint(unsure)) as endpoint:
        rows = judged(RemoteJudge(endpoint.url, "wise-1", KEY), asked)

    failed = {row.metric for row in rows if row.value is None}
    assert failed == {"response_groundedness", "llm_context_recall", "answer_correctness"}
    assert {row.metric for row in rows if row.error is None} == {*ALL} - failed


def test_what_times_out_fails_item_by_item(asked: Any, reply: Reply) -> None:
    def slow(prompt: str) -> str:
        time.sleep(0.6)
        return reply(prompt)

    with serving(Endpoint(slow)) as endpoint:
        judge = RemoteJudge(endpoint.url, "wise-1", KEY, timeout_s=0.2, retries=0)
        rows = judged(judge, asked, ("answer_relevancy",))

    assert {row.value for row in rows} == {None}
    assert all("timed out" in row.error for row in rows)


def test_an_endpoint_without_a_list_of_models_is_asked_for_a_token(reply: Reply) -> None:
    with serving(Endpoint(reply, lists_models=False)) as endpoint:
        RemoteJudge(endpoint.url, "wise-1", KEY).check()

    assert [body["max_tokens"] for body in endpoint.requests] == [1]


def test_an_address_that_serves_something_else_is_told_at_once(reply: Reply) -> None:
    class Website(Endpoint):
        def answer(self, request: BaseHTTPRequestHandler) -> tuple[int, Any]:
            return 200, "<html>Welcome!</html>"

    with serving(Website(reply)) as endpoint, pytest.raises(InputError, match="no chat completion"):
        RemoteJudge(endpoint.url, "wise-1", KEY).check()


@pytest.mark.parametrize("lists_models", [True, False])
def test_an_unknown_model_is_told_at_once(reply: Reply, lists_models: bool) -> None:
    with (
        serving(Endpoint(reply, lists_models)) as endpoint,
        pytest.raises(InputError, match=r"with the model `foolish-1`.*does not exist") as raised,
    ):
        RemoteJudge(endpoint.url, "foolish-1", KEY).check()

    assert ("It serves wise-1." in str(raised.value)) is lists_models


@pytest.mark.parametrize(
    ("environment", "told"),
    [
        ({"OPENAI_API_KEY": "wrong"}, "refuses the API key given"),
        ({"HYBRIDQA_JUDGE_API_KEY": "wrong", "OPENAI_API_KEY": "right"}, "refuses"),
        ({}, "wants an API key"),
    ],
)
def test_a_wrong_key_is_told_at_once(
    asked: Any, reply: Reply, environment: dict[str, str], told: str
) -> None:
    with (
        serving(Endpoint(reply)) as endpoint,
        pytest.raises(InputError, match=f"{told}.*401.*HYBRIDQA_JUDGE_API_KEY") as raised,
    ):
        judged(RemoteJudge(endpoint.url, "wise-1", environment), asked)

    assert "wrong" not in str(raised.value)
    assert endpoint.requests == []


def test_nobody_there_is_told_at_once(asked: Any) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"

        with pytest.raises(InputError, match=f"{url}` cannot be reached.*refused"):
            judged(RemoteJudge(url, "wise-1", KEY, retries=0), asked)


@pytest.mark.parametrize(
    ("url", "model", "options", "told"),
    [
        ("localhost:8000/v1", "m", {}, "`localhost:8000/v1` is not an http"),
        ("file:///etc/passwd", "m", {}, "is not an http"),
        ("http://[::1", "m", {}, "is not an http"),
        ("http://localhost/v1", " ", {}, "model is empty"),
        ("http://localhost/v1", "m", {"timeout_s": 0}, "timeout must be above 0 s"),
        ("http://localhost/v1", "m", {"concurrency": 0}, "concurrency"),
    ],
)
def test_bad_arguments_are_told(url: str, model: str, options: Any, told: str) -> None:
    with pytest.raises(InputError, match=told):
        RemoteJudge(url, model, {}, **options)


def test_a_key_is_trimmed_and_never_shown(reply: Reply) -> None:
    with serving(Endpoint(reply)) as endpoint:
        RemoteJudge(endpoint.url, "wise-1", {"OPENAI_API_KEY": " right\n"}).check()
    with pytest.raises(InputError, match="in OPENAI_API_KEY holds a character") as raised:
        RemoteJudge("http://localhost/v1", "m", {"OPENAI_API_KEY": "schlüssel"})
    assert "schl" not in str(raised.value)


def test_the_endpoint_is_told_without_its_password() -> None:
    judge = RemoteJudge("https://me:secret@host:8000/v1?key=secret", "m", {})

    assert judge.endpoint == "https://host:8000/v1"
