"""API keys: who may come in, and that nobody else does."""

import json
import os
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hybridqa.errors import InputError, StoreError, UnknownKeyError
from hybridqa.stores.keys import KeyStore, Scope


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "home" / "keys.json"


def elsewhere(code: str, path: Path) -> str:
    """Run code in another process; return what it prints."""
    script = (
        "import sys\nfrom hybridqa.stores.keys import KeyStore, Scope\n"
        f"keys = KeyStore(sys.argv[1])\n{code}"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_a_key_is_found_by_its_secret_alone(path: Path) -> None:
    keys = KeyStore(path)
    reader, secret = keys.create("acme", Scope.READ, "the intranet")
    writer, other = keys.create("acme", Scope.WRITE)

    assert keys.find(secret) == reader
    assert keys.find(other) == writer
    assert (reader.tenant, reader.scope, reader.label) == ("acme", Scope.READ, "the intranet")
    assert keys.list() == [reader, writer]
    id_of_one_rest_of_other = f"hqa_{reader.id}_{other.split('_', 2)[2]}"
    for wrong in (
        "",
        "hqa",
        "hqa__",
        reader.id,
        secret[:-1],
        secret + "x",
        secret.upper(),
        secret.replace("hqa_", "hqb_"),
        id_of_one_rest_of_other,
        f"hqa_{reader.id}_",
        f"hqa_{reader.id}_\udce9\0",
    ):
        assert keys.find(wrong) is None, wrong


def test_without_a_file_there_is_no_key(path: Path) -> None:
    keys = KeyStore(path)

    assert keys.list() == []
    assert keys.find("hqa_0123456789ab_secret") is None
    assert not path.parent.exists()


def test_a_revoked_key_is_listed_but_not_found(path: Path) -> None:
    keys = KeyStore(path)
    key, secret = keys.create("acme", Scope.WRITE)
    _, other = keys.create("acme", Scope.WRITE)

    revoked = keys.revoke(key.id)

    assert revoked.revoked_at is not None
    assert keys.find(secret) is None
    assert keys.find(other) is not None
    assert keys.list()[0] == revoked
    assert keys.revoke(key.id) == revoked  # the time it was first revoked stays
    with pytest.raises(UnknownKeyError, match=r"no API key `nobody`.*keys list"):
        keys.revoke("nobody")


def test_what_another_process_does_counts_at_once(path: Path) -> None:
    keys = KeyStore(path)
    _, ours = keys.create("acme", Scope.READ)
    assert keys.find(ours) is not None

    theirs = elsewhere("print(keys.create('globex', Scope.WRITE)[1])", path)
    found = keys.find(theirs)
    assert found is not None
    assert found.tenant == "globex"

    elsewhere("[keys.revoke(key.id) for key in keys.list()]", path)
    assert keys.find(theirs) is None
    assert keys.find(ours) is None


def test_the_secret_is_nowhere_on_disk_and_the_file_is_the_owners_alone(path: Path) -> None:
    before = os.umask(0)
    try:
        _, secret = KeyStore(path).create("acme", Scope.READ)
    finally:
        os.umask(before)

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    for file in path.parent.iterdir():
        assert secret.split("_", 2)[2].encode() not in file.read_bytes()


@pytest.mark.parametrize("damage", ["", "{}", "[{]", "[[]]", "cut", "hash", "time", "binary"])
def test_a_damaged_file_lets_nobody_in_and_says_what_to_do(path: Path, damage: str) -> None:
    keys = KeyStore(path)
    key, secret = keys.create("acme", Scope.WRITE)
    content = path.read_text()
    stored = json.loads(content)
    if damage == "cut":
        content = content[: len(content) // 2]
    elif damage == "hash":
        stored[0]["sha256"] = "é"
        content = json.dumps(stored)
    elif damage == "time":
        stored[0]["key"]["revoked_at"] = "yesterday"
        content = json.dumps(stored)
    elif damage == "binary":
        content = "\0" * len(content)
    else:
        content = damage
    path.write_text(content)

    for use in (
        lambda: keys.find(secret),
        lambda: KeyStore(path).find(secret),
        lambda: keys.create("acme", Scope.READ),
        lambda: keys.revoke(key.id),
        keys.list,
    ):
        with pytest.raises(StoreError, match=r"keys.json` are damaged: .*Restore .*create new"):
            use()
    assert path.read_text() == content  # nothing is written over what could be mended


def test_a_file_that_cannot_be_read_lets_nobody_in(path: Path) -> None:
    path.mkdir(parents=True)
    keys = KeyStore(path)

    with pytest.raises(StoreError, match="Cannot read the API keys"):
        keys.find("hqa_0123456789ab_secret")
    with pytest.raises(StoreError, match="Cannot read the API keys"):
        keys.create("acme", Scope.READ)


def test_writers_at_once_lose_nothing(path: Path) -> None:
    def create(tenant: str) -> list[str]:
        keys = KeyStore(path)
        return [keys.create(tenant, Scope.READ)[1] for _ in range(10)]

    with ThreadPoolExecutor() as pool:
        threads = [pool.submit(create, tenant) for tenant in ("a", "b")]
        process = pool.submit(
            elsewhere, "for _ in range(10): print(keys.create('c', Scope.READ)[1])", path
        )
        secrets = [s for thread in threads for s in thread.result()] + process.result().split()

    keys = KeyStore(path)
    assert len(keys.list()) == len(secrets) == 30
    assert all(keys.find(secret) for secret in secrets)


@pytest.mark.parametrize("label", ["two\nlines", "x" * 201, "\x1b[31m", "\udce9"])
def test_labels_are_one_short_line(path: Path, label: str) -> None:
    with pytest.raises(InputError, match="label of a key"):
        KeyStore(path).create("acme", Scope.READ, label)


def test_a_home_below_the_users_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))

    KeyStore("~/kept/keys.json").create("acme", Scope.READ)

    assert (tmp_path / "kept" / "keys.json").is_file()
