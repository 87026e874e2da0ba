"""Grouped heads attend as transformers' own way does, forward and backward."""

import torch
from transformers import DynamicCache

from hybridqa.models.attention import group_heads
from hybridqa.testing import tiny_model


def test_the_same_logits_with_and_without_a_mask() -> None:
    plain, grouped = tiny_model().model, tiny_model().model
    group_heads(grouped)
    assert grouped.config._attn_implementation != plain.config._attn_implementation
    ids = torch.randint(3, 200, (2, 9), generator=torch.Generator().manual_seed(0))
    mask = torch.ones(2, 9, dtype=torch.long)
    mask[0, :4] = 0

    for masked in (None, mask):
        found = []
        for model in (plain, grouped):
            cache = DynamicCache(config=model.config)
            at = None if masked is None else masked[:, :8]
            with torch.inference_mode():
                first = model(input_ids=ids[:, :8], attention_mask=at, past_key_values=cache)
                then = model(input_ids=ids[:, 8:], attention_mask=masked, past_key_values=cache)
            found.append(torch.cat([first.logits[1], then.logits[1]]))
        torch.testing.assert_close(*found)


def test_the_same_gradients() -> None:
    plain, grouped = tiny_model().model, tiny_model().model
    group_heads(grouped)
    seen = torch.rand(2, 1, 9, 9, generator=torch.Generator().manual_seed(0)) < 0.5
    seen |= torch.eye(9, dtype=torch.bool)

    found = []
    for model in (plain, grouped):
        embedded = model.get_input_embeddings()(torch.arange(3, 21).view(2, 9)).detach()
        embedded.requires_grad_(True)
        model(inputs_embeds=embedded, attention_mask=seen).logits.square().mean().backward()
        found.append(embedded.grad)
    torch.testing.assert_close(*found)
