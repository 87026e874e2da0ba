"""`serve`: the REST service."""

from __future__ import annotations

import logging
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from ipaddress import ip_address
from typing import TYPE_CHECKING, Annotated

import typer

from hybridqa.cli.listening import announce, listen
from hybridqa.cli.session import ConfigOption, HomeOption, JsonOption, Session, reported
from hybridqa.errors import InputError

if TYPE_CHECKING:
    from types import FrameType


_MAX_HEADER_BYTES = 32 * 1024
_MAX_CONNECTIONS = 1024


def register(app: typer.Typer) -> None:
    app.command()(serve)


def serve(
    context: typer.Context,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes any free one.")] = 8000,
    no_auth: Annotated[
        bool, typer.Option("--no-auth", help="Ask for no keys; on this machine only.")
    ] = False,
    home: HomeOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Serve questions and documents over HTTP, with a page at /. Ctrl-C ends it gracefully."""
    session = Session.of(context, home, config, as_json)
    with reported(session.json):
        try:
            import uvicorn

            from hybridqa.api.app import create_app, create_service
        except ImportError as exc:
            raise InputError(
                f"`{exc.name}` is not installed. Run `pip install 'hybridqa[serve]'`."
            ) from exc

        if no_auth and not is_loopback(host):
            raise InputError(
                f"Without keys, only this machine may ask, but `{host}` is reached from others. "
                "Use `--host 127.0.0.1`, or make keys with `hybridqa keys create`."
            )
        service = create_service(session.home, session.config(), auth=not no_auth)
        with closing(service.tenants):
            if service.keys is not None and all(key.revoked_at for key in service.keys.list()):
                raise InputError(
                    f"There is no API key in `{session.home}`, so nobody could ask. Make one with "
                    "`hybridqa keys create --scope write`, or use `--no-auth` on this machine."
                )
            app = create_app(service)
            logging.getLogger("hybridqa").setLevel(logging.INFO)
            settings = uvicorn.Config(
                app,
                log_level="warning",
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=service.limits.shutdown_s,
                limit_concurrency=_MAX_CONNECTIONS,
                h11_max_incomplete_event_size=_MAX_HEADER_BYTES,
                http="h11",
                ws="none",
            )

            class Server(uvicorn.Server):
                async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
                    service.stopping.set()  # else streams would keep it from ending
                    service.worker.stop(0)  # takes up no other document while answers are finished
                    await super().shutdown(sockets)

            server = Server(settings)

            def end(sig: int, frame: FrameType | None) -> None:
                server.should_exit = True

            with listen(host, port) as listening, _handled(end):
                announce(session, f"Serving {session.home}", host, listening)
                server.run(sockets=[listening])


@contextmanager
def _handled(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Have SIGINT and SIGTERM handled.

    uvicorn handles them itself while it runs, and raises them again once it has ended; but to end
    when told to is no failure.
    """
    before = {sig: signal.signal(sig, handler) for sig in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for sig, handler_before in before.items():
            signal.signal(sig, handler_before)


def is_loopback(host: str) -> bool:
    """Tell whether an address is reached from this machine only."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
