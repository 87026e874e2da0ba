"""Policies by name."""

from __future__ import annotations

from pathlib import Path

import yaml

from hybridqa.config import load_yaml, validate
from hybridqa.errors import ConfigError, StoreError
from hybridqa.routing.policy import Policy
from hybridqa.stores.policies import PolicyStore

MAX_CHARS = 1 << 16
MAX_DEPTH = 20
"""Of collections in each other; a policy has 4."""

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
    """Return the policy in a YAML text; nothing in it is executed.

    Aliases and tags are refused: no policy needs any, and both have been used for attacks.

    Raises:
        ConfigError: It is too long, not YAML, or not a policy.
    """
    if len(text) > MAX_CHARS:
        raise ConfigError(
            f"The policy has {len(text)} characters, limit {MAX_CHARS}. Shorten its rules."
        )
    try:
        _check_events(text)
        data = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as exc:
        raise ConfigError(f"The policy is not YAML: {str(exc) or type(exc).__name__}") from exc
    return validate(Policy, data, "policy")


def stored_policy(store: PolicyStore) -> Policy | None:
    """Return the policy that was put into a home, `None` if none was.

    Raises:
        StoreError: It is not a policy (any more), or cannot be read.
    """
    stored = store.current()
    if stored is None:
        return None
    try:
        return parse_policy(stored.text)
    except ConfigError as exc:
        raise StoreError(
            f"The home's own policy `{stored.path}` cannot be used. Mend it, or remove it to go "
            f"back to the one before. {exc}"
        ) from exc


def _check_events(text: str) -> None:
    """Refuse what would be dear or dangerous to load; stops where it begins."""
    depth = 0
    for event in yaml.parse(text, yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            raise ConfigError("The policy has YAML aliases (`*name`). Write out what they repeat.")
        tag = getattr(event, "tag", None)
        if tag is not None:
            raise ConfigError(f"The policy has a YAML tag, `{tag:.80}`. Leave tags out.")
        if isinstance(event, yaml.ScalarEvent):
            event.value.encode()  # an escape may make a lone surrogate, which no response can hold
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise ConfigError(
                f"The policy has more than {MAX_DEPTH} lists and mappings in each other, limit "
                f"{MAX_DEPTH}. Write it flat, as in `configs/policy`."
            )
