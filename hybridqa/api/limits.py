"""What every request gets: an id, headers that browsers heed, an answer, a bound on its body."""

from __future__ import annotations

import re
import uuid

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hybridqa.api.problems import explain

_HOST = re.compile(r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?")
_LOOPBACK = re.compile(r"localhost|127(\.[0-9]{1,3}){3}|\[::1\]")
_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


class RequestIds:
    """ASGI middleware: takes `X-Request-ID` if it may be one, else makes one; and sends it back.

    Whatever error gets here is answered here, so that this answer has the id too.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get("X-Request-ID", "")
        request_id = given if _ID.fullmatch(given) else uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id
        has_begun = False

        async def send_with_headers(message: Message) -> None:
            nonlocal has_begun
            if message["type"] == "http.response.start":
                has_begun = True
                headers = MutableHeaders(scope=message)
                headers["X-Request-ID"] = request_id
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            await self._app(scope, receive, send_with_headers)
        except ClientDisconnect:
            pass  # nobody waits for an answer
        except Exception as exc:
            answer = explain(Request(scope), exc)
            if has_begun:
                raise  # so that the connection is cut, and nobody takes it for a whole answer
            await answer(scope, receive, send_with_headers)


class Hosts:
    """ASGI middleware: refuses a `Host` that is none, before anybody makes a URL of it.

    Where no keys are asked for, any web page could have a browser on this machine ask: it may then
    only do so as a page of the service itself.
    """

    def __init__(self, app: ASGIApp, only_local: bool) -> None:
        """Keep the arguments.

        Args:
            app: What is guarded.
            only_local: Refuse hosts that are not this machine, and pages of other origins.
        """
        self._app, self._only_local = app, only_local

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (error := self._refused(scope)):
            await explain(Request(scope), error)(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _refused(self, scope: Scope) -> HTTPException | None:
        headers = Headers(scope=scope)
        host = headers.get("Host", "")
        found = _HOST.fullmatch(host)
        if found is None and host:
            return HTTPException(400, "The header `Host` is no name of a host.")
        if not self._only_local:
            return None
        if found is None or not _LOOPBACK.fullmatch(found[1].lower()):
            return HTTPException(
                403,
                f"Without keys, this service is for its own machine, not for `{host}`. Ask it as "
                "`localhost`, or start it with keys.",
            )
        origin = headers.get("Origin")
        if origin is not None and origin.lower() != f"{scope['scheme']}://{host}".lower():
            return HTTPException(
                403,
                "Without keys, this service does not serve other sites' pages. Start it with keys.",
            )
        return None


class BodyLimit:
    """ASGI middleware: reads no more of a body than its limit, whatever its length is said to be.

    The error is raised where the body is read, so that it is answered like all errors.
    """

    def __init__(self, app: ASGIApp, max_bytes: int, exempt: frozenset[str] = frozenset()) -> None:
        """Keep the arguments.

        Args:
            app: What is limited.
            max_bytes: Of a body.
            exempt: Paths that have limits of their own.
        """
        self._app, self._max_bytes, self._exempt = app, max_bytes, exempt

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in self._exempt:
            await self._app(scope, receive, send)
            return
        taken = 0

        async def receive_limited() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > self._max_bytes:
                raise HTTPException(
                    413, f"The body has more than {self._max_bytes} bytes, the limit. Send less."
                )
            return message

        await self._app(scope, receive_limited, send)
