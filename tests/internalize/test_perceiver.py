"""The Perceiver network by itself: as something to train, to save and to load."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from hybridqa.errors import ModelError
from hybridqa.internalize.checkpoint import checkpoint_kind, load_checkpoint, save_checkpoint
from hybridqa.internalize.doc_to_lora import PerceiverInternalizer, target_paths
from hybridqa.internalize.hypernetwork import AssociativeConfig, AssociativeHypernetwork
from hybridqa.internalize.perceiver import Factors, PerceiverConfig, PerceiverHypernetwork
from hybridqa.internalize.reading import states_of
from hybridqa.models.lora import stack, worn
from hybridqa.models.padding import padded
from hybridqa.models.states import hidden_states
from hybridqa.models.targets import linear_paths
from hybridqa.stores.peft_folder import write_peft
from hybridqa.testing import tiny_model
from hybridqa.types import Adapter, Chunk, Document, LoraLayer

TOKENS = [list(range(10, 22)), list(range(40, 47))]


def config(**changes: Any) -> PerceiverConfig:
    fields: dict[str, Any] = {
        "model_fingerprint": "tiny-random-llama-4-0",
        "encoder": "early_exit",
        "encoder_blocks": 2,
        "layers": (1, 3),
        "modules": ("down_proj", "o_proj"),
        "d_in": {"down_proj": 64, "o_proj": 32},
        "d_out": {"down_proj": 32, "o_proj": 32},
        "hidden": 32,
        "rank": 3,
        "alpha": 2.5,
        "latent": 16,
        "latents": 4,
        "blocks": 2,
        "heads": 4,
        "kv_heads": 2,
        "head_dim": 8,
        "max_chunk_tokens": 64,
    }
    return PerceiverConfig(**{**fields, **changes})


def network(seed: int = 0, **changes: Any) -> PerceiverHypernetwork:
    """Return a network whose updates are not zero."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = PerceiverHypernetwork(config(**changes))
        for name, parameter in made.named_parameters():
            if name.startswith(("scaler_B", "bias_B")):
                torch.nn.init.uniform_(parameter, 0.2, 0.8)
    return made


@torch.no_grad()
def written(made: PerceiverHypernetwork) -> Factors:
    base = tiny_model()
    ids, mask = padded(TOKENS)
    factors: Factors = made(states_of(base, made.config, ids, mask), mask)
    return factors


@pytest.mark.parametrize(
    "changes",
    [{}, {"encoder": "per_layer_activations", "encoder_blocks": 1}, {"encoder": "embed_only"}],
    ids=["early_exit", "per_layer_activations", "embed_only"],
)
def test_one_row_of_keys_and_values_for_each_rank_of_each_target(changes: dict[str, Any]) -> None:
    made = network(**changes)

    keys, values = written(made)

    assert made.config.targets == [(n, m) for n in (1, 3) for m in ("down_proj", "o_proj")]
    assert [tuple(key.shape) for key in keys] == [(2, 3, 64), (2, 3, 32)] * 2
    assert [tuple(value.shape) for value in values] == [(2, 3, 32)] * 4
    assert all((value.norm(dim=-1) > 0.01).all() for value in values)
    assert (keys[0] - keys[2]).norm() > 0.1
    assert (keys[0][0] - keys[0][1]).norm() > 0.01


def test_padding_is_not_read() -> None:
    made, base = network(), tiny_model()
    keys, values = written(made)
    ids, mask = padded(TOKENS[1:])

    with torch.no_grad():
        alone = made(states_of(base, made.config, ids, mask), mask)

    for several, one in ((keys, alone[0]), (values, alone[1])):
        for target in range(4):
            torch.testing.assert_close(several[target][1], one[target][0], rtol=1e-4, atol=1e-5)


def test_the_bias_is_appended_once_with_the_scaling_in_it() -> None:
    made = network()
    keys, values = made.with_bias(*written(made))

    assert [tuple(key.shape) for key in keys] == [(2, 6, 64), (2, 6, 32)] * 2
    assert torch.equal(keys[3][1, 3:], made.bias_A["o_proj"][1])
    assert torch.equal(values[3][1, 3:], 2.5 * made.bias_B["o_proj"][1])
    assert [len(side) for side in network(use_bias=False).with_bias(*written(made))] == [4, 4]
    assert network(use_bias=False).with_bias(*written(made))[0][0].shape == (2, 3, 64)


def test_a_new_network_changes_nothing_and_can_be_trained() -> None:
    """Fit the adapter of one text to random updates, through a frozen model's states."""
    base = tiny_model()
    torch.manual_seed(0)
    made = PerceiverHypernetwork(config())
    ids, mask = padded(TOKENS)
    states = states_of(base, made.config, ids, mask)
    goals = [0.05 * torch.randn(2, 32, d_in) for d_in in (64, 32, 64, 32)]
    optimizer = torch.optim.Adam(made.parameters(), lr=3e-3)
    losses = []
    for _ in range(40):
        keys, values = made.with_bias(*made(states, mask))
        deltas = [value.mT @ key for key, value in zip(keys, values, strict=True)]
        if not losses:
            assert all(float(delta.detach().abs().max()) == 0 for delta in deltas)
        loss = sum(((d - g) ** 2).mean() for d, g in zip(deltas, goals, strict=True))
        assert isinstance(loss, torch.Tensor)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))

    assert losses[-1] < 0.9 * losses[0]
    idle = [n for n, p in made.named_parameters() if p.grad is None or not float(p.grad.norm())]
    assert idle == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"modules": ("o_proj", "down_proj")}, "alphabetical order"),
        ({"d_in": {"down_proj": 64}}, "a size for each"),
        ({"kv_heads": 3}, "`kv_heads` must divide"),
        ({"encoder": "per_layer_activations"}, "one less than there are `layers`"),
        ({"encoder": "late_exit"}, "encoder"),
        ({"surprise": 1}, "surprise"),
        ({"alpha": 0}, "alpha"),
    ],
)
def test_a_config_that_does_not_fit_together_is_refused(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        config(**changes)


def load(folder: Path) -> tuple[PerceiverHypernetwork, str]:
    return load_checkpoint(folder, config().model_fingerprint, torch.float32, PerceiverHypernetwork)


@pytest.mark.parametrize("eight_bits", [False, True])
def test_a_checkpoint_holds_the_network(tmp_path: Path, eight_bits: bool) -> None:
    made = network(encoder="per_layer_activations", encoder_blocks=1)
    save_checkpoint(tmp_path, made, eight_bits)

    found, _ = load(tmp_path)

    assert checkpoint_kind(tmp_path) == "perceiver"
    assert found.config == made.config
    for name, tensor in made.state_dict().items():
        difference = (found.state_dict()[name] - tensor).abs().max()
        assert difference <= (0.01 * tensor.abs().max() if eight_bits else 0)


def test_the_hash_is_of_both_files(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in "abc"]
    for folder, made in zip(folders, (network(), network(), network(1)), strict=True):
        save_checkpoint(folder, made)
    changed = json.loads((folders[1] / "config.json").read_text())
    (folders[1] / "config.json").write_text(json.dumps({**changed, "max_chunk_tokens": 65}))

    assert len({load(folder)[1] for folder in folders}) == 3


def associative() -> AssociativeHypernetwork:
    return AssociativeHypernetwork(
        AssociativeConfig(
            model_fingerprint="tiny-random-llama-4-0",
            first_layer=2,
            last_layer=4,
            hidden=32,
            intermediate=64,
            width=16,
            heads=2,
            blocks=1,
            whitening=8,
        )
    )


def test_kinds_are_told_apart_and_a_config_without_one_is_associative(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, associative())
    path = tmp_path / "config.json"
    assert checkpoint_kind(tmp_path) == "associative"
    old = {name: value for name, value in json.loads(path.read_text()).items() if name != "kind"}
    path.write_text(json.dumps(old))

    assert checkpoint_kind(tmp_path) == "associative"
    fingerprint = config().model_fingerprint
    load_checkpoint(tmp_path, fingerprint, torch.float32, AssociativeHypernetwork)
    with pytest.raises(ModelError, match="of the kind `associative`, and `perceiver` is wanted"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "oracle"}, "of the kind `oracle`"),
        ({"latents": 5}, "does not fit its config"),
        ({"latents": -5}, "`latents`"),
        ({"model_fingerprint": "other"}, "trained with the model with fingerprint `other`"),
        (None, "cannot be read"),
    ],
)
def test_a_checkpoint_that_cannot_be_used_is_refused(
    tmp_path: Path, change: dict[str, Any] | None, message: str
) -> None:
    save_checkpoint(tmp_path, network())
    path = tmp_path / "config.json"
    data = json.loads(path.read_text())
    path.write_text(json.dumps({**data, **change}) if change else "[]")

    with pytest.raises(ModelError, match=message):
        load(tmp_path)


def test_a_co_trained_task_adapter_is_worn_while_reading(tmp_path: Path) -> None:
    base = tiny_model()
    save_checkpoint(tmp_path, network())
    document = Document(id="d", text="The office is closed.", title="", source="")
    chunk = Chunk(
        document_id="d", content_hash=document.content_hash, start=0, end=21, text=document.text
    )

    def made() -> Any:
        loaded = PerceiverInternalizer.from_checkpoint(tmp_path, base, max_rank=64, max_chunks=4)
        return loaded.internalize(document, [chunk]), loaded.fingerprint

    plain, plain_fingerprint = made()
    task = {"model.layers.0.mlp.down_proj": LoraLayer(torch.ones(1, 64), torch.ones(32, 1))}
    write_peft(tmp_path / "task_adapter", task, base.name)
    found, fingerprint = made()

    assert plain.task_adapter is None
    assert found.task_adapter.layers.keys() == task.keys()
    assert found.adapter.id != plain.adapter.id
    assert fingerprint != plain_fingerprint


def test_the_shared_model_is_left_whole_and_as_it_was() -> None:
    base = tiny_model()
    ids, mask = padded(TOKENS)
    before = base.model(ids, attention_mask=mask).logits
    decoder = base.model.model

    def whole(*_: object) -> None:
        assert len(decoder.layers) == 4
        seen.append(True)

    seen: list[bool] = []
    handle = decoder.layers[1].register_forward_hook(whole)
    states = hidden_states(base, ids, mask, 2, [])
    handle.remove()

    assert seen == [True]
    assert [tuple(state.shape) for state in states] == [(2, 12, 32)] * 3
    assert torch.equal(states[0], base.model.get_input_embeddings()(ids))
    assert torch.equal(before, base.model(ids, attention_mask=mask).logits)
    assert not any(block._forward_pre_hooks for block in decoder.layers)


def test_adapters_are_worn_while_states_are_made() -> None:
    base = tiny_model()
    ids, mask = padded(TOKENS)
    layers = {"model.layers.0.mlp.down_proj": LoraLayer(torch.ones(1, 64), torch.ones(32, 1))}
    adapter = Adapter("a", layers, base.fingerprint)
    with torch.no_grad(), worn(base, stack(base.model, [[adapter]] * 2)) as model:
        decoder = model.model(ids, attention_mask=mask, output_hidden_states=True)

    found = hidden_states(base, ids, mask, 4, [adapter])

    for state, theirs in zip(found, decoder.hidden_states, strict=True):
        torch.testing.assert_close(state[0], theirs[0])


def test_linear_layers_are_found_by_their_last_name() -> None:
    model = tiny_model().model

    assert linear_paths(model, [2, 0], ["q_proj", "down_proj"]) == [
        "model.layers.2.self_attn.q_proj",
        "model.layers.2.mlp.down_proj",
        "model.layers.0.self_attn.q_proj",
        "model.layers.0.mlp.down_proj",
    ]
    with pytest.raises(ModelError, match=r"has 0 linear layers `experts`.*'down_proj'"):
        linear_paths(model, [0], ["experts"])
    with pytest.raises(ModelError, match="has 4 transformer blocks, and block 4"):
        linear_paths(model, [4], ["down_proj"])
    model.model.layers[1].twin = torch.nn.ModuleDict({"down_proj": torch.nn.Linear(2, 2)})
    with pytest.raises(ModelError, match="has 2 linear layers `down_proj`"):
        linear_paths(model, [1], ["down_proj"])


def test_a_model_of_another_width_is_refused() -> None:
    with pytest.raises(ModelError, match=r"states of width 48, but those of .* have 32"):
        target_paths(tiny_model(), config(hidden=48))
