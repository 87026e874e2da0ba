"""What a fresh process costs: the time to import hybridqa, the memory of the demo."""

from __future__ import annotations

import json
import subprocess
import sys

from hybridqa.errors import HybridQAError
from hybridqa.eval.speed.pairs import spread
from hybridqa.eval.speed.report import SpeedRow
from hybridqa.eval.speed.workbench import Workbench

_IMPORT = """
import json, sys, time
began = time.perf_counter()
import hybridqa
print(json.dumps([time.perf_counter() - began, "torch" in sys.modules]))
"""


def import_time(bench: Workbench) -> SpeedRow:
    """Import hybridqa in fresh processes."""
    bench.progress("importing", 0, 1)
    found = []
    for _ in range(1 + bench.repeats(5)):  # the first fills the file cache
        command = [sys.executable, "-c", _IMPORT]
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        found.append(json.loads(output))
    imports_torch = any(torch for _, torch in found)
    return SpeedRow(
        name="import-time",
        description="`import hybridqa` in a fresh process",
        **spread([seconds for seconds, _ in found[1:]]),
        unit="s",
        target=0.3,
        at_least=False,
        details={"imports_torch": imports_torch, "processes": len(found) - 1},
    )


def demo_memory(bench: Workbench) -> SpeedRow:
    """Run the demo in a process of its own, which tells its peak memory."""
    bench.progress("running the demo", 0, 1)
    done = subprocess.run(
        [sys.executable, "-m", "hybridqa", "demo", "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise HybridQAError(
            f"`hybridqa demo --json` failed with exit code {done.returncode}: "
            f"{done.stderr.strip()[-500:]}. Run it by hand to see more."
        )
    result = json.loads(done.stdout)
    peak = result["peak_memory_bytes"] / 1e9
    return SpeedRow(
        name="demo-memory",
        description="peak memory of `hybridqa demo`",
        measured=peak,
        low=peak,
        high=peak,
        unit="GB",
        target=3.0,
        at_least=False,
        details={"questions": len(result["answers"])},
    )
