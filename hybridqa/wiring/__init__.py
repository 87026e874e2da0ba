"""Turn settings into a running system: the one place that connects everything.

Pieces are built when first used, so that listing documents does not load a language model.
"""

from hybridqa.wiring.models import EMBEDDED_CHECKPOINTS, Models
from hybridqa.wiring.policies import load_policy
from hybridqa.wiring.system import HybridQA

__all__ = ["EMBEDDED_CHECKPOINTS", "HybridQA", "Models", "load_policy"]
