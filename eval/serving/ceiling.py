"""How much more could be answered at all if many asked at once: a process a core, nothing shared.

A service that answers many at the same time can gain what its cores leave idle while one asks. So
the same questions are answered in process: by one process on all cores, and by as many as there are
cores, each on one thread, at the same time. What these gain is the most that any sharing of the
cores can, short of doing less work for a question.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from hybridqa.config import Config, load_yaml
from hybridqa.errors import HybridQAError
from hybridqa.eval.serving.process import Asked
from hybridqa.types import Document
from hybridqa.wiring import HybridQA, Models


def ceiling(settings: Path, documents: Sequence[Document], asked: Sequence[Asked]) -> float:
    """Return how many times as many answers a second one process a core gives.

    Args:
        settings: YAML file of the config.
        documents: Taken in by each process.
        asked: Documents' ids and questions.

    Raises:
        HybridQAError: A process fails.
    """
    texts = [{"id": d.id, "text": d.text, "title": d.title, "source": ""} for d in documents]
    told = json.dumps({"documents": texts, "asked": list(asked)})
    shared = hasattr(os, "sched_getaffinity")
    cores = len(os.sched_getaffinity(0)) if shared else os.cpu_count() or 1
    one = _seconds(settings, told, [{}])
    many = _seconds(settings, told, [{"OMP_NUM_THREADS": "1"}] * cores)
    return cores * one / many


def _seconds(settings: Path, told: str, environments: Sequence[Mapping[str, str]]) -> float:
    """Return how long the slowest of some processes takes, which begin together."""
    command = [sys.executable, "-m", __name__, str(settings)]
    with ExitStack() as stack:
        processes = [
            stack.enter_context(
                subprocess.Popen(
                    command,
                    env={**os.environ, **environment},
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    text=True,
                )
            )
            for environment in environments
        ]
        for line in (told, "go"):
            for process in processes:
                assert process.stdin is not None
                process.stdin.write(line + "\n")
                process.stdin.flush()
            answers = [process.stdout.readline() for process in processes if process.stdout]
            if not all(answers):
                raise HybridQAError(
                    "A process that answers questions by itself failed. See whether `hybridqa ask` "
                    "does."
                )
        return max(map(float, answers))


def _answer(settings: Path) -> None:
    """Take in the documents of standard input's first line, and ask after its second."""
    told = json.loads(sys.stdin.readline())
    config = load_yaml(Config, settings)
    models = Models(config, config.serve.max_batch)
    try:
        with tempfile.TemporaryDirectory() as home, HybridQA(home, config, models) as qa:
            for document in told["documents"]:
                qa.ingest(Document(**document))
            document, question = told["asked"][0]
            qa.ask(question, document_ids=[document])  # wakes it up
            _tell("ready")
            sys.stdin.readline()
            began = time.perf_counter()
            for document, question in told["asked"]:
                qa.ask(question, document_ids=[document])
            _tell(str(time.perf_counter() - began))
    finally:
        models.close()


def _tell(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    _answer(Path(sys.argv[1]))
