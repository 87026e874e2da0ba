"""How right an answer is, and what it rests on.

`catalog` lists the metrics; `offline` computes those that need no judge, `judging` asks a judge
(`remote_judge`, `local_judge`) for the others, `judgements` puts both together.
"""

from hybridqa.eval.metrics.text import (
    agrees,
    exact_match,
    mentions,
    normalize,
    rouge_l,
    token_f1,
)

__all__ = ["agrees", "exact_match", "mentions", "normalize", "rouge_l", "token_f1"]
