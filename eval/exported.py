"""Do other engines say, wearing what we export, what we say ourselves?

    python -m hybridqa.eval.exported vllm PYTHON
    python -m hybridqa.eval.exported llamacpp PYTHON

`PYTHON` is the interpreter of an environment with the engine in it: vLLM, or xllamacpp, which is
llama.cpp with its server. `make vllm-check` and `make llamacpp-check` make these environments.

Passages of the sample documents are internalized and exported; the engine loads the adapters, by
their content addresses, and completes the same prompts greedily: wearing the right adapter,
another's, and none, all in one process of the engine. All compute in float32; llama.cpp runs the
file that the embedded model was made of, its weights no longer in 4 bits: else it would round what
enters its layers to 8 bits, and half of the base model's own answers are others then.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console

from hybridqa.config import Config
from hybridqa.errors import HybridQAError, InputError
from hybridqa.eval.bench import scratch
from hybridqa.eval.datasets import load
from hybridqa.eval.filler import SAMPLE
from hybridqa.eval.grid import Grid
from hybridqa.eval.serving.process import ready, started
from hybridqa.internalize.export import GGUF
from hybridqa.models.fetch import download_gguf, fetch_embedded_model
from hybridqa.models.generator import TorchGenerator
from hybridqa.protocols import Prompt
from hybridqa.types import Adapter

_DOCUMENTS, _QUESTIONS = 4, 3
"""Passages, and questions about each."""
_TOKENS = 24
_LEAST = 0.9
"""Share of answers that must be the same."""
_RANK = 128
"""One of those that vLLM knows: 64 of a passage's adapter and 16 of the task adapter fit in it."""
_START_S = 600.0

_LLAMACPP = """
import sys
import xllamacpp as x
params = x.CommonParams()
params.model.path, params.n_ctx, params.n_parallel = sys.argv[1], 2048, 1
params.lora_adapters = [x.CommonAdapterLoraInfo(file, 0.0) for file in sys.argv[2:]]
server = x.Server(params)
print(server.listening_address, flush=True)
sys.stdin.readline()
"""

Say = Callable[["Asked"], str]
"""Asks an engine."""


@dataclass(frozen=True)
class Asked:
    """A prompt, and what we say to it."""

    wearing: str
    """Whose adapter: `right`, `another's` or `none`."""
    adapter: str | None
    """Its id."""
    prompt: Sequence[int]
    """Token ids."""
    answer: str


def exported(config: Config, folder: Path, file_format: str) -> list[Asked]:
    """Internalize passages, export their adapters into `folder`/ID, and answer questions.

    Raises:
        ModelError: The model or a checkpoint cannot be loaded.
    """
    data = load(str(SAMPLE))
    wanted = {case.documents[0] for case in data.cases if case.answerable and case.documents}
    chosen = [document for document in data.documents if document.id in wanted][:_DOCUMENTS]
    asked: list[Asked] = []
    with scratch(config) as qa:
        worn: dict[str, tuple[str, Sequence[Adapter]]] = {}
        for document in chosen:
            text = qa.chunker.chunk(document)[0].text
            record = qa.ingest(replace(document, text=text)).adapter
            assert record is not None, "the config internalizes"
            rank = _RANK if file_format == "peft" else None
            qa.export_adapter(record.id, folder / record.id, rank=rank, file_format=file_format)
            task = qa.task_adapters[record.task_adapter_id] if record.task_adapter_id else None
            own = qa.adapters.load(record)
            worn[document.id] = record.id, (task, own) if task else (own,)
        generator = TorchGenerator(qa.base)
        for n, document in enumerate(chosen):
            other = worn[chosen[(n + 1) % len(chosen)].id]
            ways = {"right": worn[document.id], "another's": other, "none": (None, ())}
            about = [c.question for c in data.cases if document.id in c.documents and c.answerable]
            for question in about[:_QUESTIONS]:
                for wearing, (adapter, adapters) in ways.items():
                    prompt = Prompt(question=question, adapters=adapters, max_tokens=_TOKENS)
                    answer = generator.generate([prompt])[0].text
                    ids = generator.prompt_ids(prompt)
                    asked.append(Asked(wearing, adapter, ids, answer))
    return asked


@contextmanager
def vllm(python: str, model: Path, folder: Path, asked: Sequence[Asked]) -> Iterator[Say]:
    """Start vLLM's server, and load the adapters while it runs."""
    port = _free_port()
    command = [python, "-m", "vllm.entrypoints.openai.api_server", "--model", str(model)]
    command += ["--served-model-name", "base", "--port", str(port), "--host", "127.0.0.1"]
    command += ["--dtype", "float32", "--max-model-len", "2048", "--enforce-eager"]
    command += ["--enable-lora", "--max-lora-rank", str(_RANK), "--max-cpu-loras", "8"]
    settings = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1"}
    environment = {**os.environ, **settings, "HF_HUB_OFFLINE": "1"}
    with (
        started(command, env=environment, stdout=sys.stderr) as process,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=_START_S) as client,
    ):
        if not ready(client, "health", process, _START_S):
            raise HybridQAError(f"vLLM did not get ready (exit code {process.poll()}).")
        for adapter in _ids(asked):
            told = {"lora_name": adapter, "lora_path": str(folder / adapter)}
            _post(client, "v1/load_lora_adapter", told)

        def say(one: Asked) -> str:
            told = {"model": one.adapter or "base", "prompt": list(one.prompt)}
            answer = _post(client, "v1/completions", {**told, **_greedy("max_tokens")}).json()
            return str(answer["choices"][0]["text"])

        yield say


@contextmanager
def llamacpp(python: str, folder: Path, asked: Sequence[Asked]) -> Iterator[Say]:
    """Start llama.cpp's server with all adapters, none of which is worn unless asked for."""
    adapters = _ids(asked)
    with tempfile.TemporaryDirectory(prefix="hybridqa-gguf-") as temporary:
        model = Path(temporary, "float32.gguf")
        _dequantized(download_gguf(Path(temporary)), model)
        files = [str(folder / adapter / GGUF) for adapter in adapters]
        command = [python, "-c", _LLAMACPP, str(model), *files]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        with started(command, **pipes) as process:
            assert process.stdout is not None
            url = process.stdout.readline().strip()
            if not url:
                raise HybridQAError(f"llama.cpp did not start (exit code {process.wait()}).")
            with httpx.Client(base_url=url, timeout=_START_S) as client:

                def say(one: Asked) -> str:
                    scales = [
                        {"id": n, "scale": float(adapter == one.adapter)}
                        for n, adapter in enumerate(adapters)
                    ]
                    told = {"prompt": list(one.prompt), "lora": scales, **_greedy("n_predict")}
                    return str(_post(client, "completion", told).json()["content"])

                yield say


def compared(engine: str, asked: Sequence[Asked], said: Sequence[str]) -> Grid:
    """Return how many answers are the same, by what is worn."""
    same = [one.answer.strip() == text.strip() for one, text in zip(asked, said, strict=True)]
    rows = []
    for wearing in dict.fromkeys(one.wearing for one in asked):
        of = [hit for one, hit in zip(asked, same, strict=True) if one.wearing == wearing]
        rows.append((wearing, str(len(of)), str(sum(of))))
    return Grid(
        title=f"Greedy answers of {engine}, wearing what was exported",
        columns=("adapter", "asked", "the same as ours"),
        rows=[*rows, ("all", str(len(same)), str(sum(same)))],
        caption=f"{len(_ids(asked))} passages of the sample documents, {_TOKENS} tokens at most.",
    )


def main(arguments: Sequence[str]) -> None:
    """Do what the module says.

    Raises:
        InputError: The arguments are wrong.
        HybridQAError: The engine does not start, or too many of its answers are others.
    """
    if len(arguments) != 2 or arguments[0] not in ("vllm", "llamacpp"):
        raise InputError(f"Give `vllm` or `llamacpp`, and an interpreter. Got {list(arguments)}.")
    engine, python = arguments
    config = replace(Config(), log_questions=False)
    config = replace(config, model=replace(config.model, dtype="float32"))
    with tempfile.TemporaryDirectory(prefix="hybridqa-exported-") as temporary:
        folder = Path(temporary)
        asked = exported(config, folder, "peft" if engine == "vllm" else "gguf")
        if engine == "vllm":
            server = vllm(python, fetch_embedded_model(), folder, asked)
        else:
            server = llamacpp(python, folder, asked)
        with server as say:
            said = [say(one) for one in asked]
    grid = compared(engine, asked, said)
    Console().print(grid.drawn())
    alike, count = int(grid.rows[-1][2]), len(asked)
    if alike < _LEAST * count:
        raise HybridQAError(f"{count - alike} of {count} answers are others than ours.")


def _dequantized(source: Path, target: Path) -> None:
    """Write a GGUF model with all its weights in float32."""
    import gguf
    import numpy as np

    reader = gguf.GGUFReader(source)
    architecture = reader.fields["general.architecture"].contents()
    writer = gguf.GGUFWriter(target, architecture)
    for name, field in reader.fields.items():
        if not name.startswith(("GGUF.", "general.architecture", "general.file_type")):
            kind, *inner = field.types
            writer.add_key_value(name, field.contents(), kind, inner[-1] if inner else None)
    for tensor in reader.tensors:
        weights = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        writer.add_tensor(tensor.name, weights.astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _ids(asked: Sequence[Asked]) -> list[str]:
    return list(dict.fromkeys(one.adapter for one in asked if one.adapter))


def _greedy(limit: str) -> dict[str, Any]:
    return {limit: _TOKENS, "temperature": 0}


def _post(client: httpx.Client, path: str, told: dict[str, Any]) -> httpx.Response:
    answer = client.post(path, json=told)
    if answer.is_error:
        raise HybridQAError(f"The engine refuses `{path}`: {answer.text[:500]}")
    return answer


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except HybridQAError as exc:
        sys.exit(f"Error: {exc}")
