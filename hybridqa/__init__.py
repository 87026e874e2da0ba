"""Ask a body of documents anything, answered from weights or from retrieval, whichever is right.

Example:
    with HybridQA("home") as qa:
        qa.ingest_files(["docs"])
        answer = qa.ask("How long is the notice period?")
        print(answer.text, answer.citations)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hybridqa.config import Config
    from hybridqa.errors import HybridQAError
    from hybridqa.types import Answer, Arm, Citation, Decision, Document, Style
    from hybridqa.wiring import HybridQA

__all__ = [
    "Answer",
    "Arm",
    "Citation",
    "Config",
    "Decision",
    "Document",
    "HybridQA",
    "HybridQAError",
    "Style",
]

_MODULES = {"HybridQA": "wiring", "Config": "config", "HybridQAError": "errors"}


def __getattr__(name: str) -> Any:
    """Import a name when it is first used: `import hybridqa` alone is quick."""
    if name not in __all__:
        raise AttributeError(f"module `hybridqa` has no attribute `{name}`")
    return getattr(import_module(f"hybridqa.{_MODULES.get(name, 'types')}"), name)
