"""Ports that commands serve on."""

from __future__ import annotations

import json
import os
import socket
import sys
from contextlib import ExitStack

from hybridqa.cli.session import Session
from hybridqa.errors import InputError


def listen(host: str, port: int) -> socket.socket:
    """Open a port.

    Raises:
        InputError: It is taken, or the address is not this machine's.
    """
    try:
        return _bound(host, port)
    except OSError as exc:
        raise InputError(
            f"Port {port} of `{host}` cannot be used: {exc.strerror or exc}. Choose others with "
            "`--host` and `--port`."
        ) from exc


def _bound(host: str, port: int) -> socket.socket:
    # As `socket.create_server`, but known to be TCP: else asyncio leaves Nagle's algorithm on, and
    # a client waits 40 ms for the second part of each answer.
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with ExitStack() as closing:
        bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        closing.callback(bound.close)
        if os.name == "posix":  # elsewhere this would take the port from another program
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family is socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound.bind((host, port))
        bound.listen()
        closing.pop_all()
    return bound


def announce(session: Session, what: str, host: str, listening: socket.socket) -> None:
    """Tell where to go."""
    shown = f"[{host}]" if ":" in host else host
    url = f"http://{shown}:{listening.getsockname()[1]}/"
    if session.json:
        sys.stdout.write(json.dumps({"url": url}) + "\n")
        sys.stdout.flush()
    else:
        session.console.print(f"{what} at {url} (Ctrl-C ends it)", markup=False)
