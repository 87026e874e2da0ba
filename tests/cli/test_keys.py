"""`keys create|list|revoke`, while the service has the home open."""

import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hybridqa.stores.home import Home
from hybridqa.stores.keys import KeyStore, Scope

Cli = Callable[..., Any]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def test_the_first_key_makes_the_home(cli: Cli, home: Path) -> None:
    run = cli("keys", "create", "--tenant", "acme", "--scope", "write", "--home", home)

    secret = run.out.strip()
    found = KeyStore(home / "keys.json").find(secret)
    assert found is not None
    assert (found.tenant, found.scope) == ("acme", Scope.WRITE)
    assert "curl -H 'Authorization: Bearer hqa_" in run.err
    assert secret not in run.err
    assert stat.S_IMODE((home / "keys.json").stat().st_mode) == 0o600
    with Home(home):  # the service finds nothing amiss
        pass


def test_keys_are_made_listed_and_revoked_while_the_service_runs(cli: Cli, home: Path) -> None:
    with Home(home):
        made = cli(
            *("keys", "create", "--tenant", "acme", "--label", "[intranet]"),
            *("--home", home, "--json"),
        ).json
        assert made["scope"] == "read"
        listed = cli("keys", "list", "--home", home, "--json").json
        assert listed == {"keys": [{k: v for k, v in made.items() if k != "secret"}]}
        shown = cli("keys", "list", "--home", home)
        assert made["id"] in shown.out
        assert "[intranet]" in shown.out
        assert made["secret"] not in shown.out

        revoked = cli("keys", "revoke", made["id"], "--home", home, "--json").json

    assert revoked["revoked_at"]
    assert KeyStore(home / "keys.json").find(made["secret"]) is None


@pytest.mark.parametrize("name", ["", "..", "a/b", "Acme", "a" * 64, "a\nb", "-a"])
def test_names_that_lead_out_of_the_home_are_refused(cli: Cli, home: Path, name: str) -> None:
    assert (
        "cannot be a tenant's name" in cli("keys", "create", "--tenant", name, "--home", home).error
    )
    assert not home.exists()


def test_errors_name_the_remedy(cli: Cli, home: Path) -> None:
    assert "`hybridqa keys list`" in cli("keys", "revoke", "nobody", "--home", home).error
    home.mkdir(exist_ok=True)
    (home / "keys.json").write_text("[")
    for command in (["list"], ["create"], ["revoke", "nobody"]):
        assert "Restore the file" in cli("keys", *command, "--home", home).error


def test_no_model_and_no_web_framework_is_loaded(home: Path) -> None:
    script = (
        "import sys; from hybridqa.cli import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        "print(sorted({'torch', 'fastapi', 'transformers', 'qdrant_client'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, "keys", "create", "--home", str(home)],
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout.splitlines()[1:] == ["[]"]
