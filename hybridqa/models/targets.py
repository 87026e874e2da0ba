"""Find layers of a model by walking it: no family's module paths are written down."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from hybridqa.errors import ModelError
from hybridqa.models.capture import decoder_layers


def linear_paths(model: nn.Module, layers: Sequence[int], names: Sequence[str]) -> list[str]:
    """Return the paths of the linear layers of those names in some of the transformer blocks.

    Args:
        model: A causal language model.
        layers: Numbers of the blocks.
        names: Last parts of the paths, e.g. `down_proj`.

    Returns:
        Block by block, in the order of `names`.

    Raises:
        ModelError: There is no such block, or not exactly one such linear layer in it.
    """
    blocks = decoder_layers(model)
    paths = {module: path for path, module in model.named_modules()}
    found = []
    for number in layers:
        if number >= len(blocks):
            raise ModelError(
                f"The model has {len(blocks)} transformer blocks, and block {number} is to be "
                "changed. Load the model that the hypernetwork was trained with."
            )
        linears = [m for m in blocks[number].modules() if isinstance(m, nn.Linear)]
        for name in names:
            named = [m for m in linears if paths[m].rpartition(".")[2] == name]
            if len(named) != 1:
                there = sorted({paths[m].rpartition(".")[2] for m in linears})
                raise ModelError(
                    f"Block {number} of the model has {len(named)} linear layers `{name}` where "
                    f"one is to be changed; it has {there}. Load the model that the hypernetwork "
                    "was trained with."
                )
            found.append(paths[named[0]])
    return found
