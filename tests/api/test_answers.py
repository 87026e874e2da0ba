"""Questions over HTTP, whole and as events."""

import json
import threading
import time
from contextlib import ExitStack
from typing import Any

import pytest

from tests.api.conftest import BRIDGE, LAMP, Serving

WEIGHT = {"question": "It weighs how many grams, the Corvane lamp?"}


@pytest.fixture
def known(serving: Serving) -> Serving:
    serving.know(lamp=LAMP, bridge=BRIDGE)
    return serving


def events(text: str) -> list[tuple[str, Any]]:
    found = []
    for block in text.split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.splitlines() if line[:1] not in "\r:")
        if lines:
            found.append((lines["event"], json.loads(lines["data"])))
    return found


def test_an_answer_cites_the_words_it_stands_in(known: Serving) -> None:
    response = known.client.post("/v1/answers", json=WEIGHT)

    answer = response.json()
    assert response.status_code == 200
    assert answer["id"] == response.headers["X-Request-ID"]
    (citation,) = answer["citations"]
    shown = known.client.get(f"/v1/documents/{citation['document_id']}?text=true").json()
    assert (
        shown["text"][citation["start"] : citation["end"]] == answer["answer"] == citation["quote"]
    )


def test_events_tell_the_route_then_the_words_then_the_whole(known: Serving) -> None:
    response = known.client.post("/v1/answers", json={**WEIGHT, "stream": True})

    assert response.headers["Content-Type"].startswith("text/event-stream")
    told = events(response.text)
    kinds = [kind for kind, _ in told]
    words = kinds.count("token")
    assert kinds == ["route", *["token"] * words, "citation", "done"]
    whole = told[-1][1]
    assert "".join(data["text"] for kind, data in told if kind == "token") == whole["answer"]
    assert words > 2
    plain = known.client.post("/v1/answers", json=WEIGHT).json()
    for answer in (whole, plain):
        del answer["id"], answer["timings_ms"]
    assert whole == plain


def test_the_route_is_told_before_the_answer_is_made(known: Serving) -> None:
    free, told = threading.Event(), threading.Event()

    def slow(question: str, texts: Any) -> str:
        free.wait(20)
        return ""

    known.answer = slow
    seen: list[str] = []

    def read() -> None:
        from hybridqa.api.answers import AskBody, listen
        from hybridqa.api.security import Access

        caller = Access(known.service).reader(None)
        for event in listen(known.service, caller, AskBody(**WEIGHT)):
            if event is not None:
                seen.append(type(event).__name__)
                told.set()

    reader = threading.Thread(target=read)
    reader.start()
    # The answer waits until it is set free, so what is told by now comes before it.
    assert told.wait(10)
    assert seen == ["Routed"]
    free.set()
    reader.join(10)
    assert seen == ["Routed", "Trace"]


def test_arm_documents_and_style_are_the_callers(known: Serving) -> None:
    asked = {**WEIGHT, "arm": "retrieval", "documents": ["bridge"], "style": "free"}

    answer = known.client.post("/v1/answers", json=asked).json()

    assert (answer["arm"], answer["style"]) == ("retrieval", "free")
    assert {citation["document_id"] for citation in answer["citations"]} <= {"bridge"}


def test_an_abstention_is_an_answer(known: Serving) -> None:
    known.answer = lambda question, texts: ""

    answer = known.client.post("/v1/answers", json=WEIGHT).json()

    assert answer["abstained"] is True
    assert answer["answer"] == ""
    streamed = events(known.client.post("/v1/answers", json={**WEIGHT, "stream": True}).text)
    assert [kind for kind, _ in streamed] == ["route", "done"]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("asked", "status", "kind"),
    [
        ({"question": " "}, 422, "question"),
        ({"question": "x" * 401}, 422, "question"),
        ({"question": "Who?", "documents": ["nowhere"]}, 404, "unknown-document"),
        ({"question": "Who?", "more": 1}, 422, "invalid-request"),
        ({"question": "Who?", "arm": "oracle"}, 422, "invalid-request"),
        ({"question": "Who?", "documents": ["\ud800"]}, 422, "invalid-request"),
        ({}, 422, "invalid-request"),
    ],
)
def test_bad_questions_are_told_by_the_status(
    known: Serving, asked: dict[str, Any], status: int, kind: str, stream: bool
) -> None:
    body = json.dumps({**asked, "stream": stream}).encode()  # surrogates stay escaped

    response = known.client.post(
        "/v1/answers", content=body, headers={"Content-Type": "application/json"}
    )

    assert response.status_code == status
    assert response.headers["Content-Type"] == "application/problem+json"
    assert response.json()["type"] == f"urn:hybridqa:problem:{kind}"


def test_an_error_while_answering_is_the_last_event(known: Serving) -> None:
    def fail(question: str, texts: Any) -> str:
        raise RuntimeError("the secret plan")

    known.answer = fail

    told = events(known.client.post("/v1/answers", json={**WEIGHT, "stream": True}).text)

    assert [kind for kind, _ in told] == ["route", "error"]
    assert told[-1][1]["status"] == 500
    assert "secret" not in json.dumps(told)
    assert known.service.gate.inside == 0


@pytest.mark.parametrize("stream", [False, True])
def test_a_full_service_says_when_to_come_back(known: Serving, stream: bool) -> None:
    with ExitStack() as full:
        for _ in range(known.service.limits.max_asking_by_tenant):
            full.enter_context(known.service.gate.entered("default"))
        response = known.client.post("/v1/answers", json={**WEIGHT, "stream": stream})

        assert response.status_code == 429
        assert int(response.headers["Retry-After"]) >= 1
    assert known.client.post("/v1/answers", json=WEIGHT).status_code == 200


def test_who_stops_listening_leaves_no_thread_and_no_place_behind(known: Serving) -> None:
    from hybridqa.api.answers import AskBody, listen
    from hybridqa.api.security import Access

    free = threading.Event()

    def slow(question: str, texts: Any) -> str:
        free.wait(10)
        return ""

    known.answer = slow
    before = threading.active_count()
    caller = Access(known.service).reader(None)
    told = listen(known.service, caller, AskBody(**WEIGHT))
    next(told)
    assert known.service.gate.inside == 1
    told.close()  # type: ignore[attr-defined]
    free.set()

    deadline = time.monotonic() + 10
    while known.service.gate.inside or threading.active_count() > before:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_questions_are_logged(known: Serving) -> None:
    known.client.post("/v1/answers", json=WEIGHT)

    log = known.service.tenants.get("default").qa.log.path.read_text(encoding="utf-8")
    assert json.loads(log.splitlines()[-1])["question"] == WEIGHT["question"]
