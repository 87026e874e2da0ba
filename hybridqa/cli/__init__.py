"""The `hybridqa` command: arguments to wiring, results to people (or JSON)."""

from hybridqa.cli.main import main

__all__ = ["main"]
