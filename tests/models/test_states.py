"""Blocks that read both ways, beside the whole model under a mask that hides nothing."""

import torch

from hybridqa.models.capture import decoder_layers
from hybridqa.models.states import both_ways
from hybridqa.testing import tiny_model
from hybridqa.types import Adapter, LoraLayer


def test_blocks_see_what_comes_after() -> None:
    base = tiny_model()
    ids = torch.randint(3, 200, (2, 7), generator=torch.Generator().manual_seed(0))
    mask = torch.ones(2, 7, dtype=torch.long)
    mask[1, 5:] = 0
    seen = mask.bool()[:, None, None, :].expand(-1, 1, 7, -1)
    with torch.no_grad():
        expected = base.model.base_model(
            input_ids=ids, attention_mask=seen, output_hidden_states=True
        ).hidden_states
        found = both_ways(base, expected[1], mask, range(1, 3), [])

    torch.testing.assert_close(found[0], expected[3][0])
    torch.testing.assert_close(found[1, :5], expected[3][1, :5])


def test_gradients_reach_the_adapter_and_no_weight_of_the_model() -> None:
    base = tiny_model()
    down, up = torch.randn(2, 32, requires_grad=True), torch.randn(32, 2, requires_grad=True)
    layers = {"model.layers.1.self_attn.q_proj": LoraLayer(down, up)}
    states = base.model.get_input_embeddings()(torch.tensor([[5, 6, 7]]))

    worn = Adapter("a", layers, base.fingerprint)
    both_ways(base, states, torch.ones(1, 3), range(1, 2), [worn]).square().sum().backward()

    assert down.grad is not None
    assert float(down.grad.abs().sum()) > 0
    assert all(p.grad is None for p in decoder_layers(base.model).parameters())
