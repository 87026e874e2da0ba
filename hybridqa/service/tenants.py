"""Tenants: each has a home of its own, so that nothing of one can be found from another.

Catalog, index, adapters, caches, question log, policy and jobs of a tenant lie in its home. Only
the models are shared, which know of no document. The tenant `default` has the home of the service
itself, every other `tenants/NAME` in it, so that the command line can work on each while the
service is down.
"""

from __future__ import annotations

import re
import threading
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from hybridqa.config import Config
from hybridqa.errors import InputError
from hybridqa.stores.jobs import JobStore
from hybridqa.wiring import HybridQA, Models

DEFAULT = "default"
_NAME = re.compile("[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")


@dataclass(frozen=True)
class Tenant:
    """What belongs to one tenant."""

    name: str
    qa: HybridQA
    jobs: JobStore

    @property
    def runs(self) -> Path:
        """Folder of its evaluation runs; may be missing."""
        return self.qa.home.path / "runs"


def checked_tenant(name: str) -> str:
    """Return a tenant's name if it may be one.

    Raises:
        InputError: It may not; so no name ever leads out of the service's home.
    """
    if not _NAME.fullmatch(name):
        raise InputError(
            f"{name!r:.80} cannot be a tenant's name. Use up to 63 of a-z, 0-9 and -, beginning "
            "and ending with a letter or digit."
        )
    return name


def tenant_home(root: Path, name: str) -> Path:
    """Return the home of a tenant of the service whose home is `root`."""
    return root if checked_tenant(name) == DEFAULT else root / "tenants" / name


class Tenants:
    """Opens tenants when they are first asked for; usable from several threads."""

    def __init__(self, root: str | Path, config: Config, models: Models | None = None) -> None:
        """Open the home of the tenant `default`, so that nobody else serves it.

        Args:
            root: Home of the service.
            config: Of all tenants.
            models: Shared by all tenants; by default those that `config` names.

        Raises:
            HomeInUseError: Another process has it open.
            StoreError: It cannot be written, or is not a home directory.
        """
        self.root, self.config = Path(root), config
        self.models = models or Models(config)
        self._open: dict[str, Tenant] = {}
        self._lock = threading.Lock()
        self._closing = ExitStack()
        self.get(DEFAULT)

    def get(self, name: str) -> Tenant:
        """Return a tenant, made if it is new.

        Raises:
            InputError: It cannot be a tenant's name.
            HomeInUseError: Another process has its home open.
            StoreError: Its home cannot be opened.
        """
        home = tenant_home(self.root, name)
        with self._lock:
            if name not in self._open:
                config = self.config
                if name != DEFAULT:  # where the index is a server, tenants share a collection
                    config = replace(config, index=replace(config.index, tenant=name))
                with ExitStack() as stack:
                    qa = stack.enter_context(HybridQA(home, config, self.models))
                    jobs = JobStore(qa.home.path / "jobs", keep=config.serve.keep_jobs)
                    stack.callback(jobs.close)
                    self._closing.push(stack.pop_all())
                self._open[name] = Tenant(name, qa, jobs)
            return self._open[name]

    def opened(self) -> list[Tenant]:
        """Return the tenants that are open."""
        with self._lock:
            return list(self._open.values())

    def known(self) -> list[str]:
        """Return the names of all tenants that have a home, open or not."""
        below = self.root / "tenants"
        names = sorted(path.name for path in below.iterdir()) if below.is_dir() else []
        return [DEFAULT, *(name for name in names if _NAME.fullmatch(name) and name != DEFAULT)]

    def close(self) -> None:
        """Close all homes."""
        with self._lock:
            self._open.clear()
            self._closing.close()
