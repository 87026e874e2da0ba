"""What hybridqa costs: ratios of two things timed side by side on this machine."""

from hybridqa.eval.speed.report import SpeedReport, SpeedRow, markdown, table
from hybridqa.eval.speed.run import ROWS, run_speed

__all__ = ["ROWS", "SpeedReport", "SpeedRow", "markdown", "run_speed", "table"]
