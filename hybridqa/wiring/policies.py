"""Policies by name."""

from __future__ import annotations

from pathlib import Path

from hybridqa.config import load_yaml
from hybridqa.errors import ConfigError
from hybridqa.routing.policy import Policy

_SHIPPED = Path(__file__).parents[1] / "configs" / "policy"


def load_policy(name_or_path: str) -> Policy:
    """Return a policy that ships with the package (by name) or lies in a YAML file.

    Raises:
        ConfigError: There is no such policy, or it is not valid.
    """
    if name_or_path.endswith((".yaml", ".yml")):
        return load_yaml(Policy, Path(name_or_path))
    names = sorted(path.stem for path in _SHIPPED.glob("*.yaml"))
    if name_or_path not in names:
        raise ConfigError(
            f"There is no policy `{name_or_path}`. Shipped: {', '.join(names)}; or give the path "
            "of a YAML file."
        )
    return load_yaml(Policy, _SHIPPED / f"{name_or_path}.yaml")
