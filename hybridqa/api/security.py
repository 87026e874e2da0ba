"""Who calls: an API key stands for a tenant, and for what may be done there."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import Depends
from fastapi.security import (
    HTTPAuthorizationCredentials,
    HTTPBasic,
    HTTPBasicCredentials,
    HTTPBearer,
)

from hybridqa.api.service import Service
from hybridqa.errors import ForbiddenError, UnauthenticatedError
from hybridqa.service.tenants import DEFAULT, Tenant
from hybridqa.stores.keys import Scope

_BEARER = HTTPBearer(
    auto_error=False, scheme_name="api_key", description="From `hybridqa keys create`."
)
_BASIC = HTTPBasic(auto_error=False, realm="hybridqa")


@dataclass(frozen=True)
class Caller:
    """Who calls."""

    tenant: Tenant
    scope: Scope
    key_id: str | None
    """`None` where no keys are asked for."""


class Access:
    """Dependencies of routes: give one to `Depends`."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def reader(self, bearer: HTTPAuthorizationCredentials | None = Depends(_BEARER)) -> Caller:
        """Let in whoever has a key.

        Raises:
            UnauthenticatedError: There is no key, or not a valid one.
        """
        return self._caller(bearer.credentials if bearer else None, "Bearer")

    def writer(self, bearer: HTTPAuthorizationCredentials | None = Depends(_BEARER)) -> Caller:
        """Let in whoever has a key to write.

        Raises:
            UnauthenticatedError: As for `reader`.
            ForbiddenError: The key may only read.
        """
        caller = self.reader(bearer)
        if caller.scope is not Scope.WRITE:
            raise ForbiddenError(
                f"The API key `{caller.key_id}` may only read. Use one that was created with "
                "`--scope write`."
            )
        return caller

    def browser(self, basic: HTTPBasicCredentials | None = Depends(_BASIC)) -> Caller:
        """Let in whoever gives a key as password, as browsers ask for one; for pages only.

        Raises:
            UnauthenticatedError: As for `reader`.
        """
        return self._caller(basic.password if basic else None, 'Basic realm="hybridqa"')

    def _caller(self, secret: str | None, challenge: str) -> Caller:
        service = self._service
        if service.keys is None:
            return Caller(service.tenants.get(DEFAULT), Scope.WRITE, None)
        key = service.keys.find(secret) if secret else None
        if key is None:
            told = "This API key is not valid" if secret else "An API key is needed"
            error = UnauthenticatedError(
                f"{told}. Send `Authorization: Bearer KEY`; `hybridqa keys create` makes one."
            )
            error.challenge = challenge
            raise error
        return Caller(service.tenants.get(key.tenant), key.scope, key.id)
