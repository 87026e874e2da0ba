"""What the REST service costs over the engine in process, and what it bears."""

from hybridqa.eval.serving.run import run_serving

__all__ = ["run_serving"]
