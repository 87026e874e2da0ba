"""The routing policy: read, tried on what was asked, and put in force."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from typing import Annotated, Any

import yaml
from fastapi import APIRouter, Depends, Header, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, TypeAdapter, ValidationError

from hybridqa.api.problems import problems
from hybridqa.api.schemas import Strict
from hybridqa.api.security import Access, Caller
from hybridqa.api.service import Service
from hybridqa.errors import ConfigError, InputError, StoreError
from hybridqa.eval.replay import replay
from hybridqa.routing.policy import Policy
from hybridqa.service.tenants import Tenant
from hybridqa.stores.policies import StoredPolicy
from hybridqa.stores.question_log import LoggedQuestion, read_log
from hybridqa.wiring.policies import parse_policy

_REPLAYED = 1000
_EXAMPLES = 10
_POLICY = TypeAdapter(Policy)


class YamlBody(Strict):
    yaml: str


class VersionBody(BaseModel):
    version: int
    """0: the one that the service's config names; nothing was put yet."""
    name: str
    created_at: datetime | None
    yaml: str
    """Put it again to go back to it."""


class PolicyBody(VersionBody):
    policy: dict[str, Any]


class ExampleBody(BaseModel):
    question: str
    before: str
    after: str
    reasons: list[str]


class TrialBody(BaseModel):
    """What a policy would have done with the questions asked last."""

    valid: bool
    name: str
    questions: int
    """Those asked last whose arm the policy decided; at most 1,000."""
    changed: int
    """Those that would have gone another way."""
    examples: list[ExampleBody]


class VersionsBody(BaseModel):
    versions: list[VersionBody]


def router(service: Service, access: Access) -> APIRouter:
    """Return the routes below `/v1/policy`."""
    routes = APIRouter(prefix="/v1/policy", tags=["policy"])

    @routes.get("", responses=problems(), response_model=PolicyBody)
    def show_policy(response: Response, caller: Caller = Depends(access.reader)) -> dict[str, Any]:
        """Show the policy in force; its version is the `ETag`."""
        qa = caller.tenant.qa
        policy = qa.policy  # before what is stored: put meanwhile, this one would be the older
        stored = qa.policies.current()
        return _shown(stored, _parsed(stored.text) if stored else policy, response)

    @routes.get("/versions", responses=problems(), response_model=VersionsBody)
    def list_versions(caller: Caller = Depends(access.reader)) -> dict[str, Any]:
        """List what was put, oldest first; the last 100 are kept."""
        stored = caller.tenant.qa.policies.versions()
        return {"versions": [_version(each) for each in stored]}

    @routes.put(
        "",
        responses=problems(412),
        response_model=PolicyBody | TrialBody,
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {
                    "application/yaml": {"schema": {"type": "string"}},
                    "application/json": {"schema": YamlBody.model_json_schema()},
                },
            }
        },
    )
    def put_policy(
        response: Response,
        caller: Caller = Depends(access.writer),
        text: str = Depends(_received),
        dry_run: bool = False,
        if_match: Annotated[str | None, Header(max_length=40)] = None,
    ) -> dict[str, Any]:
        """Put a policy in force; with `dry_run=true` only tell what it would change.

        With `If-Match: "VERSION"` only if that version is still in force. Policies have up to
        65,536 characters, and no YAML aliases or tags.
        """
        qa, expected = caller.tenant.qa, _expected(if_match)
        if dry_run:
            qa.policies.check(expected)
            return _tried(caller.tenant, parse_policy(text))
        return _shown(qa.put_policy(text, expected), _parsed(text), response)

    return routes


async def _received(request: Request) -> str:
    """Return the YAML of a body, which is sent as it is or in JSON."""
    body = await request.body()
    try:
        if "json" in request.headers.get("Content-Type", "").casefold():
            return YamlBody.model_validate_json(body).yaml
        return body.decode()
    except ValidationError as exc:
        raise RequestValidationError(
            [{**error, "loc": ("body", *error["loc"])} for error in exc.errors()]
        ) from exc
    except UnicodeDecodeError as exc:
        raise ConfigError(f"The policy is not UTF-8 text at byte {exc.start}.") from exc


def _expected(if_match: str | None) -> int | None:
    if if_match is None or if_match.strip() == "*":
        return None
    version = if_match.strip().strip('"')
    if not (version.isascii() and version.isdigit()):
        raise ConfigError(
            f'`If-Match` is {if_match!r}; it should be a version as in `ETag`, e.g. `"3"`.'
        )
    return int(version)


def _shown(stored: StoredPolicy | None, policy: Policy, response: Response) -> dict[str, Any]:
    shown = _POLICY.dump_python(policy, mode="json", by_alias=True)
    response.headers["ETag"] = f'"{stored.version if stored else 0}"'
    return {
        "version": stored.version if stored else 0,
        "name": policy.name,
        "created_at": stored and stored.created_at,
        "yaml": stored.text if stored else yaml.safe_dump(shown, sort_keys=False),
        "policy": shown,
    }


def _version(stored: StoredPolicy) -> dict[str, Any]:
    return {
        "version": stored.version,
        "name": _parsed(stored.text).name,
        "created_at": stored.created_at,
        "yaml": stored.text,
    }


@lru_cache(maxsize=256)  # a policy of the greatest length takes half a second to read
def _parsed(text: str) -> Policy:
    return parse_policy(text)


def _tried(tenant: Tenant, policy: Policy) -> dict[str, Any]:
    path = tenant.qa.log.path
    log: Sequence[LoggedQuestion] = []
    if path.exists():
        try:
            log = read_log(path, _REPLAYED)
        except InputError as exc:  # not the input of whoever asks
            raise StoreError(str(exc)) from exc
    report = replay(log, policy)
    changed = [row for row in report.rows if row.changed]
    return {
        "valid": True,
        "name": policy.name,
        "questions": len(report.rows),
        "changed": len(changed),
        "examples": [
            {
                "question": row.question,
                "before": row.arm_before.value,
                "after": row.arm_after.value,
                "reasons": list(row.reasons),
            }
            for row in changed[:_EXAMPLES]
        ],
    }
