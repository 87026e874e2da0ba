import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import anyio
import pytest
import uvicorn
from fastapi import FastAPI
from fastapi.testclient import TestClient
from starlette.responses import Response, StreamingResponse

from hybridqa.api.limits import BodyLimit, RequestIds
from tests.api.conftest import LAMP, Serving, fake_config

PROBLEM = "application/problem+json"
HOSTILE = {
    "nested deeply": b"[" * 100_000,
    "objects nested deeply": b'{"question":' * 100_000,
    "nested deeply inside": b'{"question": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "a huge integer": b'{"question": ' + b"9" * 100_000 + b"}",
    "a huge exponent": b'{"question": 1e999999}',
    "no number": b'{"question": NaN}',
    "infinite": b'{"question": -Infinity, "documents": [Infinity]}',
    "a lone surrogate": rb'{"question": "\ud800"}',
    "a lone surrogate as id": rb'{"question": "Why?", "documents": ["\udfff"]}',
    "a lone surrogate as field": rb'{"question": "Why?", "\ud800": 1}',
    "no UTF-8": b'{"question": "\xff\xfe"}',
    "overlong UTF-8": b'{"question": "\xc0\xaf"}',
    "cut short": b'{"question": "Wh',
    "nothing": b"",
    "null": b"null",
    "a list": b"[]",
    "a string": b'"Why?"',
    "only NUL": rb'{"question": "\u0000\u0000"}',
    "too many ids": json.dumps({"question": "Why?", "documents": ["a"] * 9999}).encode(),
}
ROUTES = ["/v1/answers", "/v1/routes/explain", "/v1/chat/completions", "/v1/documents"]


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize("body", HOSTILE.values(), ids=HOSTILE)
def test_hostile_json_is_the_senders_error(serving: Serving, path: str, body: bytes) -> None:
    headers = {"Content-Type": "application/json", "X-Request-ID": "me"}

    response = serving.client.post(path, content=body, headers=headers)

    assert 400 <= response.status_code < 500, response.text
    assert response.headers["X-Request-ID"] == "me"
    told = response.json()
    assert told["error"]["message"] if path.endswith("completions") else told["detail"]
    assert len(response.content) < 5000, "sends back what was sent"


def test_of_a_field_given_twice_the_last_counts(serving: Serving) -> None:
    serving.know(lamp=LAMP)
    body = b'{"question": "Why?", "question": "What does the Corvane lamp weigh?"}'

    response = serving.client.post(
        "/v1/answers", content=body, headers={"Content-Type": "application/json"}
    )

    assert response.status_code == 200
    assert response.json()["question"] == "What does the Corvane lamp weigh?"


def test_json_that_does_not_say_so_is_not_read(serving: Serving) -> None:
    # A foreign page may have a browser send this without asking first.
    response = serving.client.post(
        "/v1/answers", content=b'{"question": "Why?"}', headers={"Content-Type": "text/plain"}
    )

    assert response.status_code == 422


@pytest.mark.parametrize("given", ["a", "A-b_c.9", "x" * 64])
def test_a_request_keeps_its_id(serving: Serving, given: str) -> None:
    response = serving.client.get("/healthz", headers={"X-Request-ID": given})

    assert response.headers["X-Request-ID"] == given


@pytest.mark.parametrize("given", ["", "x" * 65, "a b", "a\tb", "<script>", "é", "a,b"])
def test_what_cannot_be_an_id_is_replaced(serving: Serving, given: str) -> None:
    ids = {
        serving.client.get("/healthz", headers={"X-Request-ID": given.encode("latin-1")}).headers[
            "X-Request-ID"
        ]
        for _ in range(2)
    }

    assert len(ids) == 2
    assert given not in ids


def test_the_first_of_two_request_ids_is_taken(serving: Serving) -> None:
    headers = [("X-Request-ID", "one"), ("X-Request-ID", "two")]

    assert serving.client.get("/healthz", headers=headers).headers["X-Request-ID"] == "one"


def test_an_answer_carries_the_requests_id(serving: Serving) -> None:
    serving.know(lamp=LAMP)
    asked = {"question": "What does the Corvane lamp weigh?"}

    response = serving.client.post("/v1/answers", json=asked, headers={"X-Request-ID": "q-1"})

    assert response.json()["id"] == "q-1"


@pytest.mark.parametrize("path", ["/", "/healthz", "/v1/documents", "/v1/nothing", "/dashboard/"])
def test_browsers_are_told_to_be_careful(serving: Serving, path: str) -> None:
    headers = serving.client.get(path).headers

    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert "server" not in headers


@pytest.fixture
def narrow(tmp_path: Path) -> Iterator[Serving]:
    up = Serving(tmp_path / "home", auth=False, config=fake_config(max_body_bytes=2000))
    yield up
    up.close()


@pytest.mark.parametrize("path", ["/v1/answers", "/v1/routes/explain", "/v1/chat/completions"])
@pytest.mark.parametrize("is_chunked", [False, True], ids=["with a length", "in chunks"])
def test_a_body_over_the_limit_is_refused(narrow: Serving, path: str, is_chunked: bool) -> None:
    pieces = [b'{"question": "', *[b"x" * 100] * 30, b'"}']
    headers = {"Content-Type": "application/json"}

    content = iter(pieces) if is_chunked else b"".join(pieces)
    response = narrow.client.post(path, content=content, headers=headers)

    assert response.status_code == 413
    assert "2000 bytes" in response.text
    assert ("error" in response.json()) == path.endswith("completions")


def test_a_policy_over_the_limit_is_refused(narrow: Serving) -> None:
    response = narrow.client.put("/v1/policy", content=b"# " + b"x" * 3000)

    assert response.status_code == 413
    assert response.headers["Content-Type"] == PROBLEM


def test_no_more_of_a_body_is_read_than_its_limit() -> None:
    taken = 0

    async def app(scope: object, receive: object, send: object) -> None:
        while (await receive())["more_body"]:  # type: ignore[operator]
            pass

    async def receive() -> dict[str, object]:
        nonlocal taken
        taken += 100
        return {"type": "http.request", "body": b"x" * 100, "more_body": True}

    async def send(message: object) -> None: ...

    limited = RequestIds(BodyLimit(app, 1000))  # type: ignore[arg-type]
    scope = {"type": "http", "path": "/", "method": "POST", "headers": []}
    anyio.run(limited, scope, receive, send)

    assert taken == 1100


@pytest.mark.parametrize("host", ["[::1", "a b", "a/b", "a@b", "a:b", "ä", "a:123456", "a#b"])
def test_a_host_that_is_none_is_refused(guarded: Serving, host: str) -> None:
    headers = {"Host": host.encode("latin-1")}

    for path in ("/v1/models", "/v1/documents", "/healthz", "/dashboard", "/nothing"):
        assert guarded.client.get(path, headers=headers).status_code == 400


def test_with_keys_any_host_will_do(guarded: Serving) -> None:
    headers = {"Host": "docs.example.org:8443", "Origin": "https://elsewhere.example"}

    assert guarded.client_of("default").get("/v1/me", headers=headers).status_code == 200


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:80", "127.0.0.1:8000", "[::1]:8000"])
def test_without_keys_this_machine_is_served(serving: Serving, host: str) -> None:
    headers = {"Host": host, "Origin": f"http://{host}"}

    assert serving.client.get("/v1/me", headers=headers).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "rebound.example"},
        {"Host": "127.0.0.1.rebound.example"},
        {"Host": "localhost.rebound.example:8000"},
        {"Origin": "http://elsewhere.example"},
        {"Origin": "null"},
        {"Origin": "https://localhost"},
        {"Origin": "http://localhost:9999"},
    ],
    ids=lambda headers: next(iter(headers.values())),
)
def test_without_keys_other_sites_pages_are_not_served(
    serving: Serving, headers: dict[str, str]
) -> None:
    sent = serving.client.post(
        "/v1/documents", files={"file": ("a.txt", b"They planted this.")}, headers=headers
    )

    assert sent.status_code == 403
    assert sent.headers["Content-Type"] == PROBLEM
    assert serving.client.get("/v1/jobs").json()["jobs"] == []


def test_an_answer_that_breaks_off_is_not_taken_for_a_whole_one(
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = FastAPI()

    @app.get("/")
    def stream() -> Response:
        def pieces() -> Iterator[bytes]:
            yield b"one"
            raise KeyError("two")

        return StreamingResponse(pieces())

    with TestClient(RequestIds(app)) as client, pytest.raises(KeyError):
        client.get("/", headers={"X-Request-ID": "broken"})

    assert "Request broken failed" in caplog.text


@pytest.fixture
def address(serving: Serving) -> Iterator[tuple[str, int]]:
    """Where a real server listens."""
    listening = socket.create_server(("127.0.0.1", 0))
    settings = uvicorn.Config(
        serving.app, log_level="critical", lifespan="off", http="h11", server_header=False
    )
    server = uvicorn.Server(settings)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield listening.getsockname()
    server.should_exit = True
    thread.join()


RAW = {
    "a length that is no number": "Content-Length: many\r\n",
    "a negative length": "Content-Length: -1\r\n",
    "a huge length": "Content-Length: 99999999999999999999999\r\n",
    "two lengths": "Content-Length: 1\r\nContent-Length: 2\r\n",
    "a length and chunks": "Content-Length: 3\r\nTransfer-Encoding: gzip, chunked\r\n",
    "two hosts": "Host: localhost\r\n",
    "a huge header": f"X-Much: {'x' * 200_000}\r\n",
    "very many headers": "".join(f"X-{n}: {'x' * 50}\r\n" for n in range(5000)),
    "a header without a name": ": x\r\n",
    "a header over two lines": "X-A: b\r\n\tc\r\nContent-Length: 2 2\r\n",
    "a NUL in a header": "X-A: \0\r\n",
}


@pytest.mark.parametrize("header", RAW.values(), ids=RAW)
def test_abused_headers_are_the_senders_error(address: tuple[str, int], header: str) -> None:
    status = b""
    with socket.create_connection(address, timeout=10) as client, suppress(ConnectionError):
        head = f"POST /v1/answers HTTP/1.1\r\nHost: localhost:{address[1]}\r\n"
        head += "Content-Type: application/json\r\nConnection: close\r\n"
        client.sendall(f"{head}{header}\r\n".encode() + b"x" * 1000)
        with suppress(OSError):
            client.shutdown(socket.SHUT_WR)
        status = client.makefile("rb").readline()

    # Whoever goes on sending what was refused, or never ends, may find the door shut.
    assert status == b"" or status.split()[1].startswith(b"4"), status
    assert healthy(address)


def test_after_junk_the_service_still_answers(address: tuple[str, int]) -> None:
    for junk in (b"\0" * 5000, b"GET", b"GET / HTTP/9\r\n\r\n", b"\x16\x03\x01\x02\x00"):
        with socket.create_connection(address, timeout=10) as client:
            client.sendall(junk)

    assert healthy(address)


def healthy(address: tuple[str, int]) -> bool:
    with socket.create_connection(address, timeout=10) as client:
        host = f"localhost:{address[1]}".encode()
        client.sendall(b"GET /healthz HTTP/1.1\r\nHost: " + host + b"\r\nConnection: close\r\n\r\n")
        return client.makefile("rb").readline() == b"HTTP/1.1 200 OK\r\n"
