"""How right an answer is, and what it rests on.

`catalog` lists the metrics; `offline` computes those that need no judge, `judging` asks a judge
(`remote`, `local`) for the others, `merging` puts both together.
"""

from hybridqa.eval.metrics.text import (
    Scores,
    agrees,
    exact_match,
    normalize,
    rouge_l,
    score,
    token_f1,
)

__all__ = ["Scores", "agrees", "exact_match", "normalize", "rouge_l", "score", "token_f1"]
