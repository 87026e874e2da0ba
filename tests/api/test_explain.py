"""Where a question would go, and who asks."""

from typing import Any

import pytest

from hybridqa.stores.keys import Scope
from tests.api.conftest import BRIDGE, LAMP, Serving

QUESTION = "Who designed the Corvane lamp?"


@pytest.fixture
def known(serving: Serving) -> Serving:
    serving.know(lamp=LAMP, bridge=BRIDGE)
    return serving


@pytest.mark.parametrize("arm", [None, "base", "adapter", "retrieval", "both"])
def test_what_is_explained_is_what_is_done(known: Serving, arm: str | None) -> None:
    body = {"question": QUESTION, "arm": arm, "documents": ["lamp"]}

    told = known.client.post("/v1/routes/explain", json=body).json()

    assert known.models.generator.prompts == []  # type: ignore[attr-defined]
    answer = known.client.post("/v1/answers", json=body).json()
    assert (told["arm"], told["question"]) == (answer["arm"], QUESTION)
    assert (told["adapter"] or {}).get("id") == (answer["adapter"] or {}).get("id")
    assert set(told["reasons"]) <= set(answer["reasons"])
    assert told["documents"] == ["lamp"]


@pytest.mark.parametrize(
    "body",
    [
        None,
        [],
        {},
        {"question": ""},
        {"question": "x" * 401},
        {"question": 5},
        {"question": "\x00 " * 4, "arm": "psychic"},
        {"question": QUESTION, "documents": "lamp"},
        {"question": QUESTION, "documents": ["lamp"] * 101},
        {"question": QUESTION, "style": "quote"},
    ],
)
def test_a_bad_question_is_refused(known: Serving, body: Any) -> None:
    response = known.client.post("/v1/routes/explain", json=body)

    assert response.status_code == 422
    assert response.headers["Content-Type"] == "application/problem+json"


def test_documents_and_adapters_that_are_not_there_are_told(serving: Serving) -> None:
    unknown = serving.client.post(
        "/v1/routes/explain", json={"question": QUESTION, "documents": ["lamp"]}
    )
    unread = serving.client.post(
        "/v1/routes/explain", json={"question": QUESTION, "arm": "adapter"}
    )

    assert (unknown.status_code, unread.status_code) == (404, 409)
    assert unknown.json()["type"] == "urn:hybridqa:problem:unknown-document"
    assert unread.json()["type"] == "urn:hybridqa:problem:no-live-adapter"


def test_other_methods_explain_nothing(serving: Serving) -> None:
    assert serving.client.get("/v1/routes/explain").status_code == 405
    assert serving.client.post("/v1/me").status_code == 405


def test_without_keys_everybody_may_write_as_the_default(known: Serving) -> None:
    assert known.client.get("/v1/me").json() == {
        "tenant": "default",
        "scope": "write",
        "authentication": False,
        "documents": 2,
        "policy": "default",
        "model": known.models.base.name,
    }


def test_a_key_is_told_what_it_stands_for(guarded: Serving) -> None:
    guarded.know("acme", lamp=LAMP)
    told = [
        guarded.client_of("acme", Scope.READ).get("/v1/me").json(),
        guarded.client_of("other").get("/v1/me").json(),
    ]

    assert [(me["tenant"], me["scope"], me["documents"]) for me in told] == [
        ("acme", "read", 1),
        ("other", "write", 0),
    ]
    assert all(me["authentication"] for me in told)
    assert guarded.client.get("/v1/me").status_code == 401
