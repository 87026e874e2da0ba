"""How much memory one pass takes, in a process that does nothing else.

    python -m hybridqa.eval.speed.footprint CONFIG PASS TOKENS SEED

prints it as JSON. `measured_apart` starts that process.
"""

from __future__ import annotations

import ctypes
import gc
import json
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import yaml

from hybridqa.config import Config, load_yaml
from hybridqa.errors import DocumentTooLongError, HybridQAError
from hybridqa.eval.bench import scratch
from hybridqa.eval.machine import peak_memory_bytes
from hybridqa.eval.probes.lab import configured
from hybridqa.eval.speed.passes import Pass, Passes
from hybridqa.wiring import HybridQA

_RESET = Path("/proc/self/clear_refs")


@dataclass(frozen=True, kw_only=True)
class Footprint:
    """Memory of the device that computes: of the GPU, or of the process on a CPU."""

    resting_bytes: int
    """With the models loaded, before the pass."""
    peak_bytes: int
    """The most during the pass, models included."""

    @property
    def working_bytes(self) -> int:
        """What the pass took beyond the models; at least 1, to be divided by."""
        return max(1, self.peak_bytes - self.resting_bytes)


@dataclass(frozen=True)
class Unmeasured:
    """Stands where a footprint would."""

    reason: str
    too_long: bool = False


def measure(qa: HybridQA, which: Pass, tokens: int, seed: int) -> Footprint:
    """Make a pass for the first time in this process.

    Raises:
        DocumentTooLongError: The internalizer or the model's window does not take the document.
    """
    base = qa.base
    if which is Pass.INTERNALIZE:
        configured(qa)  # loaded before what rests is read
    call = Passes(qa, tokens, seed).prepared(which)
    on_gpu = base.device.type == "cuda"
    resting = _restart(on_gpu)
    call()
    peak = torch.cuda.max_memory_allocated() if on_gpu else peak_memory_bytes()
    return Footprint(resting_bytes=resting, peak_bytes=peak)


def measured_apart(config: Config, which: Pass, tokens: int, seed: int) -> Footprint | Unmeasured:
    """Do `measure` in a fresh process."""
    with tempfile.TemporaryDirectory(prefix="hybridqa-footprint-") as folder:
        path = Path(folder) / "config.yaml"
        path.write_text(yaml.safe_dump(asdict(config)), encoding="utf-8")
        module = "hybridqa.eval.speed.footprint"
        done = subprocess.run(
            [sys.executable, "-m", module, str(path), which, str(tokens), str(seed)],
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        killed = " (killed: out of memory?)" if done.returncode == -9 else ""
        return Unmeasured(f"the process ended with code {done.returncode}{killed}: {last}")
    told = json.loads(done.stdout.splitlines()[-1])
    if "reason" in told:
        return Unmeasured(told["reason"], told["too_long"])
    return Footprint(**told)


def main(arguments: list[str]) -> None:
    """Do what the module says."""
    path, which, tokens, seed = arguments
    found: Footprint | Unmeasured
    with scratch(load_yaml(Config, Path(path))) as qa:
        try:
            found = measure(qa, Pass(which), int(tokens), int(seed))
        except HybridQAError as exc:
            found = Unmeasured(str(exc), isinstance(exc, DocumentTooLongError))
    sys.stdout.write(json.dumps(asdict(found)) + "\n")


def _restart(on_gpu: bool) -> int:
    """Let the peak begin anew from what is held now; return that."""
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
        return int(torch.cuda.memory_allocated())
    _give_back()
    if _RESET.exists():
        _RESET.write_text("5")  # Linux: the peak of the resident size
    return peak_memory_bytes()


def _give_back() -> None:
    """Return memory to the system that is free already, else the pass would seem to need less."""
    gc.collect()
    with suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL("libc.so.6").malloc_trim(0)


if __name__ == "__main__":
    main(sys.argv[1:])
