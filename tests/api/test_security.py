"""Keys at the door: without one nobody gets in, with one only where it belongs."""

import base64

import pytest
from starlette.testclient import TestClient

from hybridqa.service.tenants import DEFAULT
from hybridqa.stores.keys import KeyStore, Scope
from tests.api.conftest import LAMP, Serving

POLICY = {"yaml": "name: mine\n"}
WRITES = [
    ("POST", "/v1/documents", {"text": LAMP}),
    ("DELETE", "/v1/documents/lamp", None),
    ("PUT", "/v1/policy", POLICY),
]


def basic(password: str) -> str:
    return "Basic " + base64.b64encode(f"me:{password}".encode()).decode()


def visitor(guarded: Serving, authorization: str | None = None) -> TestClient:
    """Return a client with this header."""
    headers = {} if authorization is None else {"Authorization": authorization}
    return TestClient(
        guarded.app,
        raise_server_exceptions=False,
        base_url="http://localhost",
        headers=headers,
    )


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "hqa_0123456789ab_secret",
        "Token hqa_0123456789ab_secret",
        "Bearer hqa_0123456789ab_secret",
        "Bearer \xff\xfe",
        "Bearer " + "x" * 10_000,
        "Basic !!!",
    ],
)
def test_without_a_valid_key_nobody_gets_in(guarded: Serving, authorization: str | None) -> None:
    client = visitor(guarded)
    headers = {} if authorization is None else {b"Authorization": authorization.encode("latin-1")}

    for method, path, body in [("GET", "/v1/documents", None), ("GET", "/metrics", None), *WRITES]:
        response = client.request(method, path, json=body, headers=headers)

        assert response.status_code == 401, (method, path)
        assert response.headers["WWW-Authenticate"] == "Bearer"
        assert response.json()["type"] == "urn:hybridqa:problem:unauthenticated"
        assert "Authorization: Bearer" in response.json()["detail"]


def test_a_key_is_checked_before_anything_else_is_told(guarded: Serving) -> None:
    guarded.know(lamp=LAMP)
    client = visitor(guarded)

    assert client.get("/v1/documents/lamp").status_code == 401
    assert client.get("/v1/documents/none").status_code == 401
    assert client.post("/v1/documents", content=b"{").status_code == 401
    assert client.post("/v1/answers", json={}).status_code == 401


def test_a_key_that_may_read_does_not_write(guarded: Serving) -> None:
    guarded.know(lamp=LAMP)
    client = guarded.client_of(DEFAULT, Scope.READ)

    assert client.get("/v1/documents/lamp").status_code == 200
    assert client.post("/v1/answers", json={"question": "Who is it?"}).status_code == 200
    for method, path, body in WRITES:
        response = client.request(method, path, json=body)
        assert response.status_code == 403, (method, path)
        assert "may only read" in response.json()["detail"]
    assert client.get("/v1/documents/lamp").status_code == 200


def test_a_key_opens_its_own_tenant_only(guarded: Serving) -> None:
    guarded.know("acme", lamp=LAMP)
    guarded.know("globex")
    acme, globex = guarded.client_of("acme"), guarded.client_of("globex")

    assert acme.get("/v1/documents/lamp").status_code == 200
    assert globex.get("/v1/documents/lamp").status_code == 404
    assert globex.get("/v1/documents").json()["documents"] == []
    assert globex.delete("/v1/documents/lamp").status_code == 404
    assert acme.get("/v1/me").json()["tenant"] == "acme"


def test_keys_made_and_revoked_elsewhere_count_from_the_next_request_on(guarded: Serving) -> None:
    elsewhere = KeyStore(guarded.root / "keys.json")
    key, secret = elsewhere.create("acme", Scope.READ)
    client = visitor(guarded, f"Bearer {secret}")

    assert client.get("/v1/me").json()["scope"] == "read"
    elsewhere.revoke(key.id)
    assert client.get("/v1/me").status_code == 401


def test_damaged_keys_open_nothing_and_show_nothing(guarded: Serving) -> None:
    client = guarded.client_of("acme")
    (guarded.root / "keys.json").write_text("[")

    response = client.get("/v1/me")

    assert response.status_code == 500
    assert "keys.json" not in response.text


def test_a_password_is_taken_where_browsers_look_at_pages_only(guarded: Serving) -> None:
    assert guarded.service.keys is not None
    _, secret = guarded.service.keys.create("acme", Scope.READ)
    client = visitor(guarded, basic(secret))

    assert client.get("/dashboard/").status_code == 200
    assert client.get("/v1/me").status_code == 401
    for wrong in (None, "Basic !!!", basic("wrong"), basic("")):
        refused = visitor(guarded, wrong).get("/dashboard/")
        assert refused.status_code == 401
        assert refused.headers["WWW-Authenticate"] == 'Basic realm="hybridqa"'


def test_without_keys_everybody_is_the_default_tenant_and_may_write(serving: Serving) -> None:
    for authorization in (None, "Bearer whatever", "Basic !!!"):
        client = visitor(serving, authorization)
        told = client.get("/v1/me").json()
        assert (told["tenant"], told["scope"]) == (DEFAULT, "write")
        assert client.get("/dashboard/").status_code == 200
    assert serving.client.put("/v1/policy", json=POLICY).status_code != 403


def test_openapi_tells_that_keys_are_sent_as_bearer_tokens(guarded: Serving) -> None:
    schema = guarded.client.get("/openapi.json").json()

    [(name, scheme)] = schema["components"]["securitySchemes"].items()
    assert (scheme["type"], scheme["scheme"]) == ("http", "bearer")
    under_v1 = [
        operation
        for path, operations in schema["paths"].items()
        if path.startswith("/v1/")
        for operation in operations.values()
    ]
    assert under_v1
    assert all({name: []} in operation["security"] for operation in under_v1)
