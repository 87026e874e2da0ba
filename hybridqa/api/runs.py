"""The evaluation dashboard of the caller's tenant, below `/dashboard`."""

from __future__ import annotations

from pathlib import Path
from threading import Lock

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from fastapi.security import HTTPBasic, HTTPBearer
from starlette.concurrency import run_in_threadpool
from starlette.types import Receive, Scope, Send

from hybridqa.api.dashboard import create_dashboard
from hybridqa.api.problems import MEDIA_TYPE, problem, request_id_of, status_of
from hybridqa.api.security import Access
from hybridqa.errors import UnauthenticatedError

_BASIC = HTTPBasic(auto_error=False)
_BEARER = HTTPBearer(auto_error=False)


class Dashboards:
    """ASGI app to mount: asks for a key, browsers as a password, and shows its tenant's runs."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._apps: dict[Path, FastAPI] = {}
        self._lock = Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        try:
            given = await _BASIC(request)
        except Exception:  # a header that is no base64, says FastAPI by an HTTPException
            given = None
        try:
            if bearer := await _BEARER(request):  # a program
                caller = await run_in_threadpool(self._access.reader, bearer)
            else:
                caller = await run_in_threadpool(self._access.browser, given)
            app = await run_in_threadpool(self._app, caller.tenant.runs)
        except UnauthenticatedError as exc:
            body = problem(exc, request_id_of(request))
            headers = {"WWW-Authenticate": exc.challenge}
            refusal = JSONResponse(body, status_of(exc), headers, media_type=MEDIA_TYPE)
            await refusal(scope, receive, send)
            return
        await app(scope, receive, send)

    def _app(self, folder: Path) -> FastAPI:
        with self._lock:
            folder.mkdir(exist_ok=True)
            if folder not in self._apps:
                self._apps[folder] = create_dashboard(folder)
            return self._apps[folder]
