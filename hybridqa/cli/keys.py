"""`keys create`, `keys list`, `keys revoke`: they work while the service runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from hybridqa.cli.session import ConfigOption, HomeOption, JsonOption, Session, reported
from hybridqa.stores.keys import Scope

if TYPE_CHECKING:
    from hybridqa.stores.keys import ApiKey, KeyStore


def register(app: typer.Typer) -> None:
    group = typer.Typer(help="API keys of `hybridqa serve`.", no_args_is_help=True)
    group.command("create")(create)
    group.command("list")(show)
    group.command("revoke")(revoke)
    app.add_typer(group, name="keys")


def create(
    context: typer.Context,
    tenant: Annotated[
        str, typer.Option(metavar="NAME", help="Whose documents it opens; made when first used.")
    ] = "default",
    scope: Annotated[Scope, typer.Option(help="`write` includes `read`.")] = Scope.READ,
    label: Annotated[str, typer.Option(metavar="TEXT", help="For the list.")] = "",
    home: HomeOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a key. It is shown once, and kept as a hash only."""
    session = Session.of(context, home, config, as_json)
    with reported(session.json):
        from hybridqa.service.tenants import checked_tenant

        key, secret = _store(session).create(checked_tenant(tenant), scope, label)

        def render(console: Console) -> None:
            console.print(secret, markup=False, soft_wrap=True, highlight=False)
            Console(stderr=True).print(
                f"For tenant `{key.tenant}`, to {key.scope}. Nobody can show it again. Use it as "
                "`curl -H 'Authorization: Bearer hqa_...' http://127.0.0.1:8000/v1/me`.",
                markup=False,
                soft_wrap=True,
            )

        session.show({**_told(key), "secret": secret}, render)


def show(
    context: typer.Context,
    home: HomeOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """List all keys, without their secrets."""
    session = Session.of(context, home, config, as_json)
    with reported(session.json):
        keys = _store(session).list()

        def render(console: Console) -> None:
            table = Table(
                Column("id", no_wrap=True), "tenant", "scope", "label", "created", "revoked"
            )
            for key in keys:
                told = _told(key)
                table.add_row(*(escape(told[name] or "") for name in told))
            console.print(table)

        session.show({"keys": [_told(key) for key in keys]}, render)


def revoke(
    context: typer.Context,
    key_id: Annotated[str, typer.Argument(metavar="ID", help="As listed.")],
    home: HomeOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let a key open nothing any more, from the next request on."""
    session = Session.of(context, home, config, as_json)
    with reported(session.json):
        key = _store(session).revoke(key_id)
        session.show(_told(key), lambda console: console.print(f"Revoked {key.id}.", markup=False))


def _store(session: Session) -> KeyStore:
    from hybridqa.stores.keys import KeyStore

    return KeyStore(session.home / "keys.json")


def _told(key: ApiKey) -> dict[str, Any]:
    return {
        "id": key.id,
        "tenant": key.tenant,
        "scope": key.scope.value,
        "label": key.label,
        "created_at": key.created_at.isoformat(timespec="seconds"),
        "revoked_at": key.revoked_at and key.revoked_at.isoformat(timespec="seconds"),
    }
