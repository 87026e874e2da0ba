"""The dashboard below `/dashboard`: each tenant's own runs."""

from urllib.parse import urljoin

import pytest

from hybridqa.service.tenants import DEFAULT
from hybridqa.stores.keys import Scope
from tests.api.conftest import Serving
from tests.eval.synthetic_run import make_run, write_run

ARMS = ("context", "retrieval+quote", "auto")


def key_of(guarded: Serving, tenant: str) -> str:
    assert guarded.service.keys is not None
    return guarded.service.keys.create(tenant, Scope.READ)[1]


def add_run(serving: Serving, name: str, tenant: str = DEFAULT, seed: int = 0) -> None:
    folder = serving.service.tenants.get(tenant).runs / name
    write_run(folder, make_run(7, ARMS, seed, path=name))


def test_the_dashboard_shows_the_homes_runs(serving: Serving) -> None:
    page = serving.client.get("/dashboard")

    assert page.status_code == 200
    assert str(page.url).endswith("/dashboard/")
    assert "No runs yet" in page.text


def test_the_dashboard_asks_browsers_for_a_key(guarded: Serving) -> None:
    client = guarded.client
    refused = client.get("/dashboard/")
    assert refused.status_code == 401
    assert refused.headers["WWW-Authenticate"].startswith("Basic")
    secret = key_of(guarded, "acme")

    assert client.get("/dashboard/", auth=("anybody", secret)).status_code == 200
    assert client.get("/v1/me", auth=("anybody", secret)).status_code == 401
    assert client.get("/dashboard/", headers={"Authorization": "Basic ???"}).status_code == 401


def test_links_hold_below_the_dashboard(serving: Serving) -> None:
    assert "No runs yet" in serving.client.get("/dashboard/").text
    add_run(serving, "new run")  # found without a restart
    add_run(serving, "old", seed=1)

    listing = serving.client.get("/dashboard")

    pages = []
    for link in ("runs/new%20run", "runs/new%20run/against/old"):
        assert f'href="{link}"' in listing.text
        pages.append(serving.client.get(urljoin(str(listing.url), link)))
    assert [page.status_code for page in pages] == [200, 200]
    assert all('id="data"' in page.text for page in pages)
    assert pages[0].text != pages[1].text


def test_the_redirect_holds_behind_a_prefix(serving: Serving) -> None:
    response = serving.client.get("/dashboard", follow_redirects=False)

    assert response.status_code == 307
    assert response.headers["Location"] == "dashboard/"


def test_runs_of_another_tenant_are_not_shown(guarded: Serving) -> None:
    add_run(guarded, "secret", "acme")
    acme, other = key_of(guarded, "acme"), key_of(guarded, "other")

    assert "secret" in guarded.client.get("/dashboard/", auth=("me", acme)).text
    assert guarded.client.get("/dashboard/runs/secret", auth=("me", acme)).status_code == 200
    assert "secret" not in guarded.client.get("/dashboard/", auth=("me", other)).text
    assert guarded.client.get("/dashboard/runs/secret", auth=("me", other)).status_code == 404
    assert guarded.client.get("/dashboard/runs/secret").status_code == 401


def test_runs_whose_folder_is_removed_are_gone_and_nothing_breaks(serving: Serving) -> None:
    assert serving.client.get("/dashboard/").status_code == 200
    serving.service.tenants.get(DEFAULT).runs.rmdir()

    assert "No runs yet" in serving.client.get("/dashboard/").text


@pytest.mark.parametrize(
    "path", ["runs/..%2f..%2fkeys.json", "runs/%2e%2e", "keys.json", "docs", "openapi.json"]
)
def test_nothing_else_of_the_home_is_shown(serving: Serving, path: str) -> None:
    assert serving.client.get(f"/dashboard/{path}").status_code == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_the_dashboard_is_only_read(serving: Serving, method: str) -> None:
    assert serving.client.request(method, "/dashboard/").status_code == 405
