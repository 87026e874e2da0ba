"""Find where in a text a question is answered, from what was kept of the text.

A small encoder reads a text once: its lower blocks see the text alone, and what they make of each
token is kept as a few numbers, the text's *places*. Its upper blocks see the question beside them,
and say where the answer begins and ends, or that it is nowhere there. So nothing is read again.

Lower blocks apart, upper blocks together: DeFormer, Cao et al. 2020 (arXiv 2005.00697). Kept states
made narrow: PreTTR, MacAvaney et al. 2020 (arXiv 2004.14255). Spans, and "nowhere" as one of them:
Devlin et al. 2018 (arXiv 1810.04805), here with one softmax over whole spans.
"""

from __future__ import annotations

from typing import Annotated, Any

import torch
import torch.nn.functional as F
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from hybridqa.config import STRICT

_COUNT = Annotated[int, Field(ge=1)]
NEVER = -1e4
"""Logit of what cannot be."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class LocatorConfig:
    """Shape of a locator; stored beside its weights as `config.json`."""

    format_version: Annotated[int, Field(ge=1, le=1)] = 1
    encoder: str = "embedded"
    """A BERT-like encoder as for `index: embedder:`, whose embeddings are used as they are."""
    encoder_fingerprint: str
    """Of its weights."""
    lower: _COUNT = 2
    """Blocks that see a text, or a question, alone."""
    width: _COUNT = 128
    """Numbers kept of a token."""
    piece_tokens: _COUNT = 254
    """A longer text is read in pieces."""
    span_tokens: _COUNT = 24
    """Of an answer, at most."""


class LocatorNetwork(nn.Module):
    """The encoder's blocks, and what was put between and behind them."""

    def __init__(self, config: LocatorConfig, encoder: Any) -> None:
        """Take the blocks of an encoder, as they are.

        Args:
            config: The shape.
            encoder: A transformers model with `embeddings` and `encoder.layer`.
        """
        super().__init__()
        hidden = encoder.config.hidden_size
        self.config = config
        self.embeddings = encoder.embeddings.requires_grad_(False)
        self.blocks = encoder.encoder.layer
        self.narrow = nn.Linear(hidden, config.width)
        self.widen = nn.Linear(config.width, hidden)
        self.ends = nn.Linear(hidden, 2)
        self.nowhere = nn.Linear(hidden, 1)

    def own_state(self) -> dict[str, Tensor]:
        """Return all weights but the embeddings, by name."""
        return {n: t for n, t in self.state_dict().items() if not n.startswith("embeddings.")}

    def alone(self, ids: Tensor, mask: Tensor, asked: bool) -> Tensor:
        """Return states (batch, tokens, hidden) after the lower blocks.

        Args:
            ids: (batch, tokens).
            mask: The same shape, 1 for tokens.
            asked: Whether these are questions.
        """
        kinds = torch.full_like(ids, int(asked))
        states = self.embeddings(input_ids=ids, token_type_ids=kinds)
        return self._through(states, mask, range(self.config.lower))

    def keep(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Return what is kept of texts, (batch, tokens, width)."""
        return torch.as_tensor(self.narrow(self.alone(ids, mask, asked=False)))

    def together(
        self, asked: Tensor, asked_mask: Tensor, kept: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return logits of an answer's begin and end (batch, tokens, 2), and of nowhere (batch,).

        Args:
            asked: States of questions (batch, question tokens, hidden).
            asked_mask: (batch, question tokens).
            kept: Of the text that each is asked of (batch, tokens, width).
            mask: (batch, tokens).
        """
        states = torch.cat([asked, self.widen(kept).to(asked.dtype)], 1)
        both = torch.cat([asked_mask, mask], 1)
        states = self._through(states, both, range(self.config.lower, len(self.blocks)))
        ends = self.ends(states[:, asked.shape[1] :]).float()
        return ends, self.nowhere(states[:, 0]).float()[:, 0]

    def _through(self, states: Tensor, mask: Tensor, blocks: range) -> Tensor:
        unseen = (mask == 0)[:, None, None, :].expand(-1, 1, mask.shape[1], -1)
        bias = torch.zeros_like(unseen, dtype=states.dtype).masked_fill(unseen, NEVER)
        for n in blocks:
            out = self.blocks[n](states, attention_mask=bias)
            states = out[0] if isinstance(out, tuple) else out
        return states


def span_logits(ends: Tensor, begins: Tensor, closes: Tensor, longest: int) -> Tensor:
    """Return the logits of spans (batch, lengths, tokens): of n + 1 tokens from each token on.

    Args:
        ends: (batch, tokens, 2).
        begins: (batch, tokens), where an answer may begin.
        closes: (batch, tokens), where one may end.
        longest: Tokens of a span.
    """
    begin = ends[..., 0].masked_fill(~begins, NEVER)
    end = ends[..., 1].masked_fill(~closes, NEVER)
    tokens = begin.shape[1]
    rows = [
        F.pad(begin[:, : tokens - n] + end[:, n:], (0, n), value=2 * NEVER)
        for n in range(min(longest, tokens))
    ]
    return torch.stack(rows, 1)
