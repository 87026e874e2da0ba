"""Admission: a bound on the questions being answered, so that overload is refused, not queued."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from hybridqa.errors import OverloadedError


class Gate:
    """Lets a number of callers through at a time, of each tenant fewer; nobody waits here."""

    def __init__(self, what: str, limit: int, limit_by_tenant: int, retry_after_s: int = 1) -> None:
        """Keep the limits.

        Args:
            what: Plural noun for errors, e.g. `questions`.
            limit: Of all together.
            limit_by_tenant: Of one tenant, so that it cannot shut out the others.
            retry_after_s: Told to whoever is refused.
        """
        self._what, self._limit, self._limit_by_tenant = what, limit, limit_by_tenant
        self._retry_after_s = retry_after_s
        self._inside: Counter[str] = Counter()
        self._lock = threading.Lock()

    @property
    def inside(self) -> int:
        with self._lock:
            return self._inside.total()

    @contextmanager
    def entered(self, tenant: str) -> Iterator[None]:
        """Be counted while the block runs.

        Raises:
            OverloadedError: There are too many.
        """
        with self._lock:
            if self._inside.total() >= self._limit:
                raise OverloadedError(self._what, self._limit, self._retry_after_s)
            if self._inside[tenant] >= self._limit_by_tenant:
                raise OverloadedError(
                    f"{self._what} of this tenant", self._limit_by_tenant, self._retry_after_s
                )
            self._inside[tenant] += 1
        try:
            yield
        finally:
            with self._lock:
                self._inside[tenant] -= 1
                if not self._inside[tenant]:
                    del self._inside[tenant]
