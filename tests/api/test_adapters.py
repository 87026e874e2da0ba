"""Adapters over HTTP: listed, shown, and given away as PEFT folders."""

import asyncio
import io
import json
import shutil
import tempfile
import zipfile
from contextlib import suppress
from pathlib import Path

import pytest
from safetensors.torch import load
from starlette.types import Message

from tests.api.conftest import BRIDGE, LAMP, Serving


@pytest.fixture
def known(serving: Serving) -> Serving:
    serving.know(lamp=LAMP, bridge=BRIDGE)
    return serving


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary files go."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def lamps_adapter(known: Serving) -> str:
    found = known.client.get("/v1/adapters?document=lamp&state=live").json()["adapters"]
    return str(found[0]["id"])


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
    adapter = lamps_adapter(known)

    response = known.client.post(f"/v1/adapters/{adapter}/export")

    assert response.headers["Content-Type"] == "application/zip"
    with zipfile.ZipFile(io.BytesIO(response.content)) as archive:
        assert sorted(archive.namelist()) == ["adapter_config.json", "adapter_model.safetensors"]
        config = json.loads(archive.read("adapter_config.json"))
        tensors = load(archive.read("adapter_model.safetensors"))
    assert (config["peft_type"], config["task_type"]) == ("LORA", "CAUSAL_LM")
    assert all(name.startswith("base_model.model.") for name in tensors)
    assert {name.rsplit(".", 2)[1] for name in tensors} == {"lora_A", "lora_B"}
    assert adapter[:12] in response.headers["Content-Disposition"]


def test_what_is_exported_leaves_nothing_behind(known: Serving, temporary: Path) -> None:
    assert known.client.post(f"/v1/adapters/{lamps_adapter(known)}/export").status_code == 200

    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("spec", ["2.3", "2.4"], ids="asgi-{}".format)
@pytest.mark.parametrize("sent_before", [0, 1], ids=["before the head", "after the head"])
def test_a_client_that_vanishes_leaves_nothing_behind(
    known: Serving, temporary: Path, spec: str, sent_before: int
) -> None:
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": spec},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": f"/v1/adapters/{lamps_adapter(known)}/export",
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"localhost")],
    }

    async def vanish() -> list[int]:
        """Return the statuses sent until then."""
        gone = asyncio.Event()
        told: list[Message] = [{"type": "http.request", "body": b"", "more_body": False}]
        sent: list[Message] = []

        async def receive() -> Message:
            if told:
                return told.pop()
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            if len(sent) == sent_before:
                gone.set()
                raise OSError("gone")
            sent.append(message)

        with suppress(Exception):  # whatever becomes of the request, nobody is there to be told
            await known.app(scope, receive, send)
        return [message["status"] for message in sent if "status" in message]

    assert asyncio.run(vanish()) == [200] * sent_before
    assert list(temporary.iterdir()) == []


def test_an_adapter_whose_files_are_gone_is_our_fault_and_leaves_nothing_behind(
    known: Serving, temporary: Path
) -> None:
    adapter = lamps_adapter(known)
    shutil.rmtree(known.root / "adapters" / adapter)

    response = known.client.post(f"/v1/adapters/{adapter}/export")

    assert response.status_code == 500
    assert str(known.root) not in response.text
    assert list(temporary.iterdir()) == []


def test_an_adapter_of_an_old_revision_can_still_be_listed_and_exported(known: Serving) -> None:
    old = lamps_adapter(known)
    known.know(lamp=LAMP + " It is red.")

    retired = known.client.get("/v1/adapters?document=lamp&state=retired").json()["adapters"]

    assert [each["id"] for each in retired] == [old]
    assert lamps_adapter(known) != old
    assert known.client.post(f"/v1/adapters/{old}/export").status_code == 200


@pytest.mark.parametrize(
    ("query", "where"),
    [
        ("limit=0", "limit"),
        ("limit=201", "limit"),
        ("limit=x", "limit"),
        ("state=dead", "state"),
        ("after=" + "a" * 65, "after"),
        ("document=" + "d" * 2049, "document"),
    ],
)
def test_a_bad_filter_is_named(known: Serving, query: str, where: str) -> None:
    response = known.client.get(f"/v1/adapters?{query}")

    assert response.status_code == 422
    assert response.json()["errors"][0]["where"] == f"query.{where}"


@pytest.mark.parametrize(
    "name", ["0", "%25%25%25%25%25%25%25%25", "..%2F..%2Fkeys", "%00", "é" * 9]
)
def test_what_is_no_id_is_not_found(known: Serving, name: str) -> None:
    assert known.client.get(f"/v1/adapters/{name}").status_code == 404
    assert known.client.post(f"/v1/adapters/{name}/export").status_code == 404


def test_an_adapter_is_only_its_tenants(guarded: Serving) -> None:
    guarded.know("acme", lamp=LAMP)
    acme, other = guarded.client_of("acme"), guarded.client_of("other")
    adapter = acme.get("/v1/adapters").json()["adapters"][0]["id"]

    for name in (adapter, adapter[:8]):
        assert acme.get(f"/v1/adapters/{name}").status_code == 200
        assert other.get(f"/v1/adapters/{name}").status_code == 404
        assert other.post(f"/v1/adapters/{name}/export").status_code == 404
    assert other.get(f"/v1/adapters?after={adapter}").status_code == 404
    assert other.get("/v1/adapters?document=lamp").json()["adapters"] == []


def test_adapters_are_not_changed_by_other_methods(known: Serving) -> None:
    adapter = lamps_adapter(known)

    for method, path in [
        ("POST", "/v1/adapters"),
        ("DELETE", f"/v1/adapters/{adapter}"),
        ("PUT", f"/v1/adapters/{adapter}"),
        ("GET", f"/v1/adapters/{adapter}/export"),
    ]:
        assert known.client.request(method, path).status_code == 405, (method, path)
    assert lamps_adapter(known) == adapter


def test_an_adapter_is_exported_as_other_engines_want_it(known: Serving) -> None:
    adapter = lamps_adapter(known)

    def exported(query: str) -> dict[str, bytes]:
        response = known.client.post(f"/v1/adapters/{adapter}/export?{query}")
        assert response.status_code == 200, response.text
        with zipfile.ZipFile(io.BytesIO(response.content)) as archive:
            return {name: archive.read(name) for name in archive.namelist()}

    assert json.loads(exported("rank=32&part=0")["adapter_config.json"])["r"] == 32
    assert list(exported("format=gguf")) == ["adapter.gguf"]


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("part=7", "numbered from 0, and none is 7"),
        ("rank=0", "rank"),
        ("rank=64&format=gguf", "for `peft` only"),
        ("format=onnx", "format"),
    ],
)
def test_what_cannot_be_exported_is_told(known: Serving, query: str, told: str) -> None:
    response = known.client.post(f"/v1/adapters/{lamps_adapter(known)}/export?{query}")

    assert response.status_code == 422
    assert told in response.text
