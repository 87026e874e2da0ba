"""The web page: ask, see why and from where, keep documents. Static; all it shows it asks of /v1.

What it may do is narrow: scripts and styles from here only, requests to here only, and no way to
make markup of text (`trusted-types`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from importlib.resources import files

from fastapi import APIRouter, Request, Response

_TYPES = {"html": "text/html", "js": "text/javascript", "css": "text/css", "svg": "image/svg+xml"}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    # Always asked for anew, so that an update is seen at once; mostly answered by 304.
    "Cache-Control": "no-cache",
}


def router() -> APIRouter:
    """Return the routes of the page; they need no key."""
    routes = APIRouter(include_in_schema=False)
    for file in files("hybridqa.api").joinpath("page").iterdir():
        suffix = file.name.rpartition(".")[2]
        if suffix not in _TYPES:
            continue
        path = "/" if file.name == "index.html" else f"/page/{file.name}"
        serve = _serve(file.read_bytes(), _TYPES[suffix])
        routes.add_api_route(path, serve, methods=["GET", "HEAD"])
    return routes


def _serve(content: bytes, media_type: str) -> Callable[[Request], Response]:
    etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    headers = {**_HEADERS, "ETag": etag}

    def serve(request: Request) -> Response:
        held = request.headers.get("If-None-Match", "")
        if etag in (tag.strip().removeprefix("W/") for tag in held.split(",")):
            return Response(status_code=304, headers=headers)
        return Response(content, media_type=media_type, headers=headers)

    return serve
