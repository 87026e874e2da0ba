"""Where a question would go, and who asks."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Depends
from pydantic import BaseModel

from hybridqa.api.problems import problems
from hybridqa.api.schemas import DecisionBody, QuestionBody
from hybridqa.api.security import Access, Caller
from hybridqa.api.service import Service
from hybridqa.serialize import decision_dict
from hybridqa.stores.keys import Scope


class MeBody(BaseModel):
    tenant: str
    scope: Scope
    authentication: bool
    """Whether this service asks for keys."""
    documents: int
    policy: str
    """Name."""
    model: str


def router(service: Service, access: Access) -> APIRouter:
    """Return `/v1/routes/explain` and `/v1/me`."""
    routes = APIRouter(prefix="/v1", tags=["questions"])

    @routes.post("/routes/explain", responses=problems(404, 409), response_model=DecisionBody)
    def explain(body: QuestionBody, caller: Caller = Depends(access.reader)) -> dict[str, Any]:
        """Return the arm a question would take, and why; nothing is generated."""
        with service.gate.entered(caller.tenant.name):
            decision = caller.tenant.qa.explain(body.question, body.arm, tuple(body.documents))
        return decision_dict(body.question, decision)

    @routes.get("/me", responses=problems(), response_model=MeBody)
    def me(caller: Caller = Depends(access.reader)) -> dict[str, Any]:
        """Return what the key stands for."""
        qa = caller.tenant.qa
        return {
            "tenant": caller.tenant.name,
            "scope": caller.scope,
            "authentication": service.keys is not None,
            "documents": len(qa.catalog.live_hashes()),
            "policy": qa.policy.name,
            "model": qa.base.name,
        }

    return routes
