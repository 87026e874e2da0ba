"""What is converted, what is refused, and that nothing in a pickle is run."""

import io
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from hybridqa.errors import InputError, ModelError
from hybridqa.internalize.convert import convert_checkpoint
from hybridqa.models.base import BaseModel
from tests.internalize.published import QWEN, write_published


@pytest.fixture(scope="module")
def base() -> BaseModel:
    return QWEN.model()


def convert(tmp_path: Path, base: BaseModel, changes: dict[str, Any] | None = None) -> Path:
    write_published(tmp_path / "model.bin", QWEN, "early_exit", changes=changes)
    convert_checkpoint(tmp_path / "model.bin", tmp_path / "folder", base, 512)
    return tmp_path / "folder"


def test_every_tensor_keeps_its_values_and_dtype(tmp_path: Path, base: BaseModel) -> None:
    head = torch.randn(4, 16, 80).to(torch.bfloat16)
    theirs = write_published(tmp_path / "model.bin", QWEN, "early_exit")

    found = load_file(convert(tmp_path, base, {"head.weight": head}) / "model.safetensors")

    assert torch.equal(found.pop("head"), head[:, None])
    assert {tensor.dtype for tensor in found.values()} == {torch.float32}
    left = sorted(t.flatten().tolist() for t in found.values())
    assert left == sorted(t.flatten().tolist() for n, t in theirs.items() if n != "head.weight")


def test_names_of_a_compiled_network_are_understood(tmp_path: Path, base: BaseModel) -> None:
    scaler = torch.full((1, 4, 3, 1), 0.25)
    changes = {"scaler_A.down_proj": None, "_orig_mod.scaler_A.down_proj": scaler}

    found = load_file(convert(tmp_path, base, changes) / "model.safetensors")

    assert torch.equal(found["scaler_A.down_proj"], scaler[0, ..., 0])


def test_a_local_folder_may_be_called_anything(tmp_path: Path, base: BaseModel) -> None:
    (tmp_path / "my-qwen").mkdir()

    folder = convert(tmp_path, replace(base, name=str(tmp_path / "my-qwen")))

    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]


LATENTS = "aggregator.perceiver.encoder.latents_q"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({LATENTS: None}, f"no tensor `{LATENTS}`"),
        (
            {LATENTS: torch.zeros(5, 17)},
            rf"{LATENTS}: torch.float32 \(5, 17\) instead of \(5, 16\)",
        ),
        ({LATENTS: torch.zeros(5, 16, dtype=torch.int8)}, f"{LATENTS}: torch.int8"),
        ({LATENTS: torch.full((5, 16), torch.nan)}, f"NaN or infinite values in {LATENTS}"),
        ({LATENTS: "nothing"}, f"no tensor `{LATENTS}`"),
        ({"extra_head.weight": torch.zeros(2)}, "does not tell of: `extra_head.weight`"),
        ({"hypernet_config": None}, "has no hypernet_config"),
        ({"base_model_name_or_path": None, "ctx_encoder_args": None}, "no base_model.*, ctx_enc"),
        ({"hypernet_config": {"latent_size": 16}}, "`hypernet_config` has no `aggregator_config`"),
        ({"aggregator_config@aggregator_type": "pooler"}, "`aggregator_type` = 'pooler'"),
        ({"aggregator_config@shared_weights": True}, "`shared_weights` = True"),
        ({"hypernet_config@per_rank_gen": False}, "`per_rank_gen` = False"),
        ({"hypernet_config@per_layer_processing": False}, "`per_layer_processing` = False"),
        ({"hypernet_config@extra_modules": ["input_layernorm"]}, "`extra_modules` = "),
        ({"ctx_encoder_args@ctx_encoder_model_name_or_path": "bert"}, "= 'bert'; only 'Qwen"),
        ({"ctx_encoder_args@ctx_encoder_type": "psychic"}, "`encoder`"),
        ({"ctx_encoder_args@layer_idx": "all"}, "`encoder_blocks`"),
        ({"hypernet_config@latent_size": "many"}, "`latent`"),
        ({"hypernet_config@latent_size": torch.zeros(2)}, "`latent`"),
        ({"hypernet_config@feature_sizes": None}, "config that cannot be used"),
        ({"hypernet_config@layer_indices": torch.arange(9)}, "has 4 transformer blocks"),
        ({"lora_config@target_modules": "all-linear"}, "config that cannot be used"),
        ({"lora_config@target_modules": None}, "config that cannot be used"),
        ({"base_model_name_or_path": "google/gemma-2-2b-it"}, "trained for `google/gemma-2-2b-it`"),
    ],
)
def test_what_cannot_be_converted_is_told(
    tmp_path: Path, base: BaseModel, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        convert(tmp_path, base, changes)

    assert not (tmp_path / "folder").exists()


def test_another_model_is_refused_by_its_shapes(tmp_path: Path, base: BaseModel) -> None:
    sizes = ({"down_proj": 40}, {"down_proj": 32})

    with pytest.raises(ModelError, match=r"as a layer of 32 x 40, but .* is 32 x 48"):
        convert(tmp_path, base, {"hypernet_config@feature_sizes": sizes})


def test_a_folder_that_is_not_empty_is_refused(tmp_path: Path, base: BaseModel) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "thesis.txt").write_text("mine")

    with pytest.raises(InputError, match="there already"):
        convert(tmp_path, base)


class Evil:
    """Would make a file if it were unpickled."""

    def __init__(self, call: Callable[..., object], *args: object) -> None:
        self._reduced = (call, args)

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self._reduced


@pytest.mark.parametrize(
    "place", ["hypernet_config", "head.weight", "aggregator_config@num_blocks"]
)
@pytest.mark.parametrize(
    ("call", "name"),
    [(os.system, "posix.system"), (eval, "builtins.eval"), (torch.hub.load, "torch.hub.load")],
)
def test_what_would_run_is_named_and_not_run(
    tmp_path: Path, base: BaseModel, place: str, call: Callable[..., object], name: str
) -> None:
    sign = tmp_path / "was-run"
    code = f"touch {sign}" if call is os.system else f"__import__('os').mkdir({str(sign)!r})"

    with pytest.raises(ModelError, match=rf"asks for `{name}`.*nothing was run"):
        convert(tmp_path, base, {place: Evil(call, code)})

    assert not sign.exists()
    if call is not torch.hub.load:
        pickle.loads(pickle.dumps(Evil(call, code)))
        assert sign.exists()  # so the absence above means something


def rezipped(path: Path, data: bytes) -> None:
    """Put another pickle into a checkpoint."""
    with zipfile.ZipFile(path) as old:
        files = {info.filename: old.read(info) for info in old.infolist()}
    with zipfile.ZipFile(path, "w") as new:
        for name, content in files.items():
            new.writestr(name, data if name.endswith("data.pkl") else content)


def by_stack() -> bytes:
    """Name a function by strings on the stack, which a list of the globals does not show."""
    return b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x0btouch owned\x85R."


@pytest.mark.parametrize(
    "data",
    [
        by_stack(),
        b"\x80\x02cposix\nsystem\nX\x04\x00\x00\x00true\x85R.",
        b"\x80\x02]q\x00.",
        b"\x80\x02}q\x00",
        b"\x80\x02(((((",
        b"\x80\x02X" + struct.pack("<I", 1 << 31) + b"x.",
        b"",
        b"not a pickle",
    ],
    ids=["by stack", "call", "a list", "no end", "marks", "long string", "empty", "text"],
)
def test_a_strange_pickle_is_refused(
    tmp_path: Path, base: BaseModel, data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "model.bin"
    write_published(path, QWEN, "early_exit")
    rezipped(path, data)

    with pytest.raises(ModelError, match="Get the file anew"):
        convert_checkpoint(path, tmp_path / "folder", base, 512)

    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize("kept", [0, 100, 0.5, 0.999])
def test_a_truncated_file_is_refused(tmp_path: Path, base: BaseModel, kept: float) -> None:
    path = tmp_path / "model.bin"
    write_published(path, QWEN, "early_exit")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept if kept > 1 else kept * len(whole))])

    with pytest.raises(ModelError, match="cannot be read as a checkpoint"):
        convert_checkpoint(path, tmp_path / "folder", base, 512)


def test_a_plain_pickle_or_no_file_is_refused(tmp_path: Path, base: BaseModel) -> None:
    path = tmp_path / "model.bin"
    buffer = io.BytesIO()
    pickle.dump({"hypernet_config": Evil(os.system, f"touch {tmp_path}/was-run")}, buffer)
    path.write_bytes(buffer.getvalue())

    with pytest.raises(ModelError, match="cannot be read as a checkpoint"):
        convert_checkpoint(path, tmp_path / "folder", base, 512)
    with pytest.raises(ModelError, match="cannot be read as a checkpoint"):
        convert_checkpoint(tmp_path / "nowhere.bin", tmp_path / "folder", base, 512)

    assert not (tmp_path / "was-run").exists()
