"""The policy over HTTP, adapters, and where a question would go."""

import io
import json
import zipfile

import pytest

from tests.api.conftest import BRIDGE, LAMP, Serving

YAML = {"Content-Type": "application/yaml"}


@pytest.fixture
def known(serving: Serving) -> Serving:
    serving.know(lamp=LAMP, bridge=BRIDGE)
    return serving


def changed(serving: Serving, name: str, arm: str = "retrieval") -> str:
    return (
        f"name: {name}\ndescription: A test.\n"
        f"rules: [{{if: always, then: {arm}, because: it is a test}}]\n"
    )


def test_a_policy_that_is_put_decides_from_then_on(known: Serving) -> None:
    client, asked = known.client, {"question": "Who designed the Corvane lamp?"}
    assert client.post("/v1/routes/explain", json=asked).json()["arm"] == "adapter"
    before = client.get("/v1/policy")
    assert before.headers["ETag"] == '"0"'

    put = client.put("/v1/policy", content=changed(known, "mine"), headers=YAML)

    assert (put.json()["version"], put.headers["ETag"]) == (1, '"1"')
    assert client.post("/v1/routes/explain", json=asked).json()["arm"] == "retrieval"
    assert client.get("/v1/policy").json()["yaml"] == changed(known, "mine")
    assert [each["name"] for each in client.get("/v1/policy/versions").json()["versions"]] == [
        "mine"
    ]


def test_a_change_on_an_old_version_is_refused(known: Serving) -> None:
    first = known.client.put(
        "/v1/policy", json={"yaml": changed(known, "one")}, headers={"If-Match": '"0"'}
    )
    second = known.client.put(
        "/v1/policy", json={"yaml": changed(known, "two")}, headers={"If-Match": '"0"'}
    )

    assert (first.status_code, second.status_code) == (200, 412)
    assert known.client.get("/v1/policy").json()["name"] == "one"


def test_a_trial_tells_what_would_change_and_changes_nothing(known: Serving) -> None:
    for question in ("Who designed the Corvane lamp?", "When was the Tamsin bridge opened?"):
        known.client.post("/v1/answers", json={"question": question})

    trial = known.client.put(
        "/v1/policy?dry_run=true", content=changed(known, "mine"), headers=YAML
    ).json()

    assert (trial["valid"], trial["questions"], trial["changed"]) == (True, 2, 2)
    assert {(each["before"], each["after"]) for each in trial["examples"]} == {
        ("adapter", "retrieval")
    }
    assert known.client.get("/v1/policy").json()["version"] == 0


@pytest.mark.parametrize(
    "text",
    [
        "",
        "name: x",
        "[" * 5000,
        "a: &a [x]\nb: *a",
        "name: \0",
        "!!python/object/apply:os.system [ls]",
        "x" * 70_000,
    ],
)
def test_what_is_no_policy_is_refused_and_the_old_one_stays(known: Serving, text: str) -> None:
    response = known.client.put("/v1/policy", content=text, headers=YAML)

    assert response.status_code == 422
    assert response.json()["type"] == "urn:hybridqa:problem:config"
    assert known.client.get("/v1/policy").json()["version"] == 0


def test_a_policy_outlives_the_service(known: Serving) -> None:
    known.client.put("/v1/policy", content=changed(known, "mine"), headers=YAML)
    known.close()
    from hybridqa.wiring import HybridQA
    from tests.api.conftest import fake_config, fake_models

    config = fake_config()
    with HybridQA(known.root, config, fake_models(config)) as qa:
        assert qa.policy.name == "mine"


def test_adapters_are_listed_page_by_page_and_shown_by_a_prefix(known: Serving) -> None:
    client = known.client
    first = client.get("/v1/adapters?limit=1").json()
    second = client.get(f"/v1/adapters?limit=1&after={first['next']}").json()

    assert [first["adapters"][0]["document_id"], second["adapters"][0]["document_id"]] == [
        "bridge",
        "lamp",
    ]
    assert second["next"] is None
    adapter = second["adapters"][0]
    assert client.get(f"/v1/adapters/{adapter['id'][:10]}").json() == adapter
    assert client.get("/v1/adapters?document=lamp").json()["adapters"] == [adapter]
    assert client.get("/v1/adapters?state=retired").json()["adapters"] == []
    assert client.get("/v1/adapters/0123456789").status_code == 404
    assert client.get("/v1/adapters?after=0123").status_code == 404


def test_an_exported_adapter_is_a_peft_folder(known: Serving) -> None:
    adapter = known.client.get("/v1/adapters?document=lamp").json()["adapters"][0]["id"]

    response = known.client.post(f"/v1/adapters/{adapter}/export")

    assert response.headers["Content-Type"] == "application/zip"
    with zipfile.ZipFile(io.BytesIO(response.content)) as archive:
        assert sorted(archive.namelist()) == ["adapter_config.json", "adapter_model.safetensors"]
        assert json.loads(archive.read("adapter_config.json"))["peft_type"] == "LORA"


def test_the_dashboard_shows_the_homes_runs(known: Serving) -> None:
    page = known.client.get("/dashboard")

    assert page.status_code == 200
    assert str(page.url).endswith("/dashboard/")
    assert "No runs yet" in page.text


def test_the_dashboard_asks_browsers_for_a_key(guarded: Serving) -> None:
    client = guarded.client
    refused = client.get("/dashboard/")
    assert refused.status_code == 401
    assert refused.headers["WWW-Authenticate"].startswith("Basic")
    assert guarded.service.keys is not None
    from hybridqa.stores.keys import Scope

    _, secret = guarded.service.keys.create("acme", Scope.READ)

    assert client.get("/dashboard/", auth=("anybody", secret)).status_code == 200
    assert client.get("/v1/me", auth=("anybody", secret)).status_code == 401
    assert client.get("/dashboard/", headers={"Authorization": "Basic ???"}).status_code == 401
