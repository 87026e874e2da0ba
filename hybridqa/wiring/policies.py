"""Policies by name."""

from __future__ import annotations

from pathlib import Path

import yaml

from hybridqa.config import load_yaml, validate
from hybridqa.errors import ConfigError
from hybridqa.routing.policy import Policy

MAX_CHARS = 1 << 16

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


def parse_policy(text: str) -> Policy:
    """Return the policy in a YAML text; nothing in it is executed, and aliases are refused.

    Raises:
        ConfigError: It is too long, not YAML, or not a policy.
    """
    if len(text) > MAX_CHARS:
        raise ConfigError(
            f"The policy has {len(text)} characters, limit {MAX_CHARS}. Shorten its rules."
        )
    try:
        events = list(yaml.parse(text, yaml.SafeLoader))
        if any(isinstance(event, yaml.AliasEvent) for event in events):
            raise ConfigError("The policy has YAML aliases (`*name`). Write out what they repeat.")
        data = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as exc:
        raise ConfigError(f"The policy is not YAML: {str(exc) or type(exc).__name__}") from exc
    return validate(Policy, data, "policy")
