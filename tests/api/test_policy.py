"""The policy over HTTP: shown, tried, put, and in force for whole questions."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from hybridqa.stores.keys import Scope
from hybridqa.stores.policies import KEPT
from hybridqa.stores.question_log import read_log
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
        "name: !!bool x",
        "name: !!timestamp x",
        'name: !!int ""',
        "x" * 70_000,
        "{" * 60_000,
        "- " * 30_000,
        f"rules: [{'1,' * 30_000}]",
        'name: "\\ud800"\ndescription: x\nrules: [{if: always, then: base, because: x}]',
    ],
    ids=lambda text: text[:20],
)
def test_what_is_no_policy_is_refused_and_the_old_one_stays(known: Serving, text: str) -> None:
    response = known.client.put("/v1/policy", content=text, headers=YAML)

    assert response.status_code == 422
    assert response.json()["type"] == "urn:hybridqa:problem:config"
    assert len(response.text) < 3000
    assert known.client.get("/v1/policy").json()["version"] == 0


def test_a_policy_outlives_the_service(known: Serving) -> None:
    known.client.put("/v1/policy", content=changed(known, "mine"), headers=YAML)
    known.close()
    from hybridqa.wiring import HybridQA
    from tests.api.conftest import fake_config, fake_models

    config = fake_config()
    with HybridQA(known.root, config, fake_models(config)) as qa:
        assert qa.policy.name == "mine"


@pytest.mark.parametrize("days", [".inf", ".nan", "1.0e+300", "-1"])
def test_a_threshold_that_no_calendar_has_is_refused(known: Serving, days: str) -> None:
    text = changed(known, "mine") + f"thresholds: {{recent_days: {days}}}\n"

    response = known.client.put("/v1/policy", content=text, headers=YAML)

    assert response.status_code == 422
    assert "recent_days" in response.json()["detail"]
    assert known.client.get("/v1/policy").json()["name"] == "default"


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"{", "application/json"),
        (b"[]", "application/json"),
        (b"{}", "Application/JSON"),
        (b'{"yaml": 5}', "application/json"),
        (b'{"yaml": "x", "more": 1}', "application/json"),
        (b'{"yaml": "\\ud800"}', "application/json"),
        (b'{"yaml": "\xff"}', "application/json"),
        (b"name: \xff", "application/yaml"),
        (b"", "application/json"),
    ],
)
def test_what_is_no_body_is_refused(known: Serving, body: bytes, kind: str) -> None:
    response = known.client.put("/v1/policy", content=body, headers={"Content-Type": kind})

    assert response.status_code == 422
    assert response.headers["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize("tag", ["x", '"x"', '"1", "2"', '"-1"', "\u0663"])
def test_a_precondition_that_names_no_version_is_refused(known: Serving, tag: str) -> None:
    headers = [(b"Content-Type", b"application/yaml"), (b"If-Match", tag.encode())]

    for path in ("/v1/policy", "/v1/policy?dry_run=true"):
        response = known.client.put(path, content=changed(known, "mine"), headers=headers)
        assert response.status_code == 422
        assert "If-Match" in response.json()["detail"]
    assert known.client.get("/v1/policy").json()["version"] == 0


def test_a_trial_on_an_old_version_is_refused_too(known: Serving) -> None:
    known.client.put("/v1/policy", content=changed(known, "one"), headers=YAML)

    trials = [
        known.client.put(
            "/v1/policy?dry_run=true",
            content=changed(known, "two"),
            headers={**YAML, "If-Match": tag},
        )
        for tag in ('"0"', '"1"', "*")
    ]

    assert [trial.status_code for trial in trials] == [412, 200, 200]


def test_a_trial_counts_the_last_thousand_that_the_policy_decided(known: Serving) -> None:
    asked = {"question": "Who designed the Corvane lamp?"}
    known.client.post("/v1/answers", json=asked)
    known.client.post("/v1/answers", json={**asked, "arm": "base"})
    log = known.service.tenants.get("default").qa.log.path
    decided, forced = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"damaged\n" + decided * 2 + (decided + forced) * 500)

    trial = known.client.put(
        "/v1/policy?dry_run=true", content=changed(known, "mine"), headers=YAML
    ).json()

    assert (trial["questions"], trial["changed"], len(trial["examples"])) == (500, 500, 10)


def test_a_damaged_log_is_not_blamed_on_whoever_tries(known: Serving) -> None:
    path = known.service.tenants.get("default").qa.log.path
    path.write_bytes(b"damaged\n")

    response = known.client.put(
        "/v1/policy?dry_run=true", content=changed(known, "mine"), headers=YAML
    )

    assert response.status_code == 500
    assert str(path) not in response.text


def test_an_old_version_is_gone_back_to_by_putting_it_again(known: Serving) -> None:
    first = changed(known, "one").replace("\n", "\r\n")
    for text in (first, changed(known, "two")):
        known.client.put("/v1/policy", content=text, headers=YAML)
    old = known.client.get("/v1/policy/versions").json()["versions"][0]
    assert (old["version"], old["yaml"]) == (1, first)

    again = known.client.put("/v1/policy", json={"yaml": old["yaml"]}).json()

    assert (again["version"], again["name"]) == (3, "one")


def test_puts_at_the_same_time_each_show_their_own(known: Serving) -> None:
    names = [f"p{number}" for number in range(KEPT + 20)]
    ended = threading.Event()

    def read() -> set[int]:
        seen = set()
        while not ended.is_set():
            seen |= {
                known.client.get(f"/v1/policy{path}").status_code for path in ("", "/versions")
            }
        return seen

    with ThreadPoolExecutor(9) as pool:
        reading = pool.submit(read)
        put = list(
            pool.map(
                lambda name: known.client.put(
                    "/v1/policy", content=changed(known, name), headers=YAML
                ).json(),
                names,
            )
        )
        ended.set()

    assert [each["name"] for each in put] == names
    assert sorted(each["version"] for each in put) == list(range(1, len(names) + 1))
    newest = max(put, key=lambda each: int(each["version"]))
    assert known.service.tenants.get("default").qa.policy.name == newest["name"]
    assert known.client.get("/v1/policy").json() == newest
    assert len(known.client.get("/v1/policy/versions").json()["versions"]) == KEPT
    assert reading.result() == {200}


def test_a_question_has_one_policy_from_beginning_to_end(known: Serving) -> None:
    trusting = changed(known, "trusting", "adapter") + "style: free\n"
    wary = changed(known, "wary") + "thresholds: {min_confidence: 1, min_support: 1}\n"
    known.client.put("/v1/policy", content=trusting, headers=YAML)
    at_work, go_on, picks = threading.Event(), threading.Event(), known.answer

    def slowly(question: str, texts: list[str]) -> str:
        at_work.set()
        assert go_on.wait(10)
        return picks(question, texts)

    known.answer = slowly  # type: ignore[assignment]
    asked = {"question": "Who designed the Corvane lamp?"}
    with ThreadPoolExecutor(1) as pool:
        under_way = pool.submit(known.client.post, "/v1/answers", json=asked)
        assert at_work.wait(10)
        put = known.client.put("/v1/policy", content=wary, headers=YAML)
        go_on.set()
        first = under_way.result().json()
    second = known.client.post("/v1/answers", json=asked).json()

    assert put.json()["name"] == "wary"
    assert (first["arm"], first["style"]) == ("adapter", "free")  # which `wary` would not trust
    assert (second["arm"], second["style"]) == ("retrieval", "quote")
    log = read_log(known.service.tenants.get("default").qa.log.path)
    assert [entry.policy for entry in log] == ["trusting", "wary"]


def test_a_policy_that_cannot_be_stored_is_not_in_force(known: Serving) -> None:
    folder = known.root / "policies"
    folder.write_text("in the way")

    response = known.client.put("/v1/policy", content=changed(known, "mine"), headers=YAML)

    assert response.status_code == 500
    assert str(folder) not in response.text
    assert known.service.tenants.get("default").qa.policy.name == "default"


def test_other_methods_and_keys_that_only_read_change_nothing(guarded: Serving) -> None:
    writer, reader = guarded.client_of("acme"), guarded.client_of("acme", Scope.READ)

    for method, path in [
        ("DELETE", "/v1/policy"),
        ("POST", "/v1/policy"),
        ("PUT", "/v1/policy/versions"),
    ]:
        response = writer.request(method, path, content=changed(guarded, "mine"))
        assert response.status_code == 405, (method, path)
        assert response.headers["Content-Type"] == "application/problem+json"
        assert response.headers["Allow"]
    for path in ("/v1/policy", "/v1/policy?dry_run=true"):
        assert reader.put(path, content=changed(guarded, "mine")).status_code == 403
    assert reader.get("/v1/policy").json()["version"] == 0
