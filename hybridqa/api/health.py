"""Is it alive, and may it be asked?"""

from __future__ import annotations

from fastapi import APIRouter, Response
from pydantic import BaseModel

from hybridqa.api.service import Service


class HealthBody(BaseModel):
    status: str


def router(service: Service) -> APIRouter:
    """Return `/healthz` and `/readyz`, for which nobody needs a key."""
    routes = APIRouter(tags=["operation"])

    @routes.get("/healthz")
    async def alive() -> HealthBody:
        """Answer as long as the process does."""
        return HealthBody(status="alive")

    @routes.get("/readyz", responses={503: {"model": HealthBody}})
    async def ready(response: Response) -> HealthBody:
        """Answer 200 once the models are loaded, 503 before, and when the service is stopping."""
        if service.stopping.is_set():
            status = "stopping"
        else:
            status = "ready" if service.ready.is_set() else "loading"
        response.status_code = 200 if status == "ready" else 503
        return HealthBody(status=status)

    return routes
