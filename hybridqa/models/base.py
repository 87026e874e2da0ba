"""Load a frozen causal language model with its tokenizer and its weights' fingerprint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from hybridqa.errors import ModelError
from hybridqa.models.attention import group_heads
from hybridqa.models.fetch import fetch_embedded_model
from hybridqa.models.fingerprint import fingerprint_weights
from hybridqa.models.turns import Turns

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedModel, PreTrainedTokenizerFast


def torch_device(name: str) -> torch.device:
    """Return a device by torch's name for it; `auto` is a GPU where there is one."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


@dataclass(frozen=True, eq=False)
class BaseModel:
    """A frozen model. Nothing in hybridqa ever changes its weights."""

    name: str
    """As in the config; written into exported adapters as `base_model_name_or_path`."""

    fingerprint: str
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerFast
    lock: Turns = field(default_factory=Turns)
    """Held while the model runs with adapters worn; see `lora.worn`. `lock.run` computes."""

    def plain_ids(self, text: str) -> list[int]:
        """Return a text's tokens; what looks like a special token is spelled out.

        Thread-safe, as `chat_ids` is: how special tokens are read is a state of a tokenizer, so
        each of the two ways has a private copy.
        """
        ids: list[int] = self._plain_tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def plain_tokens(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Return `plain_ids`, and the characters (start, end) that each token stands for."""
        encoding = self._plain_tokenizer.encode(text, add_special_tokens=False)
        return encoding.ids, encoding.offsets

    def chat_ids(self, text: str, add_special_tokens: bool = False) -> list[int]:
        """Return the tokens of a rendered chat template, its special tokens read as such."""
        ids: list[int] = self._chat_tokenizer.encode(
            text, add_special_tokens=add_special_tokens
        ).ids
        return ids

    def chat_pieces(
        self, text: str, cuts: Sequence[int], add_special_tokens: bool = False
    ) -> list[list[int]]:
        """Return what `chat_ids` does, cut before the first tokens that begin at some characters.

        Args:
            text: As for `chat_ids`.
            cuts: Rising offsets in characters.
            add_special_tokens: See there.
        """
        encoding = self._chat_tokenizer.encode(text, add_special_tokens=add_special_tokens)
        pieces: list[list[int]] = [[] for _ in range(len(cuts) + 1)]
        piece = 0
        for token, (start, _) in zip(encoding.ids, encoding.offsets, strict=True):
            while piece < len(cuts) and start >= cuts[piece]:
                piece += 1
            pieces[piece].append(token)
        return pieces

    @cached_property
    def _plain_tokenizer(self) -> Tokenizer:
        tokenizer = _copied(self.tokenizer)
        tokenizer.encode_special_tokens = True
        return tokenizer

    @cached_property
    def _chat_tokenizer(self) -> Tokenizer:
        return _copied(self.tokenizer)

    @property
    def device(self) -> torch.device:
        return self.model.device

    @property
    def dtype(self) -> torch.dtype:
        return self.model.dtype

    @classmethod
    def from_checkpoint(
        cls, name: str, dtype: str = "bfloat16", device: str = "auto", lock: Turns | None = None
    ) -> BaseModel:
        """Load `embedded`, a hub id or a local folder.

        Raises:
            ModelError: No such model, no safetensors weights, or no tokenizer.
        """
        lock = lock or Turns()
        return lock.run(lambda: cls._load(name, dtype, device, lock))

    @classmethod
    def _load(cls, name: str, dtype: str, device: str, lock: Turns) -> BaseModel:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        folder = _resolve(name)
        fingerprint = fingerprint_weights(folder)
        if not any((folder / file).is_file() for file in ("tokenizer.json", "tokenizer.model")):
            raise ModelError(
                f"Model folder `{folder}` has no tokenizer (`tokenizer.json` or "
                "`tokenizer.model`). Save it there with `tokenizer.save_pretrained(folder)`."
            )
        try:
            tokenizer: Any = AutoTokenizer.from_pretrained(folder)
            model: Any = AutoModelForCausalLM.from_pretrained(
                folder, dtype=getattr(torch, dtype), use_safetensors=True
            )
        except (OSError, ValueError, KeyError, ImportError, RuntimeError) as exc:
            raise ModelError(
                f"Model `{name}` cannot be loaded from `{folder}`: {exc}. It must be a causal "
                "language model that transformers knows without remote code."
            ) from exc
        try:
            model = model.to(torch_device(device)).eval().requires_grad_(False)
        except (RuntimeError, AssertionError) as exc:  # unknown, absent, or out of its memory
            reason = str(exc).splitlines()[0]
            raise ModelError(
                f"Model `{name}` cannot be put on the device `{device}`: {reason}. Set `model: "
                "device:` to `auto`, `cpu`, or a device that this torch build supports."
            ) from exc
        group_heads(model)
        public_name = "HuggingFaceTB/SmolLM2-135M-Instruct" if name == "embedded" else name
        return cls(public_name, fingerprint, model, tokenizer, lock)


def _copied(tokenizer: PreTrainedTokenizerFast) -> Tokenizer:
    shared = tokenizer.backend_tokenizer
    copy: Tokenizer = type(shared).from_str(shared.to_str())
    copy.no_truncation()
    copy.no_padding()
    return copy


def _resolve(name: str) -> Path:
    if name == "embedded":
        return fetch_embedded_model()
    if Path(name).is_dir():
        return Path(name)
    if name.startswith((".", "/", "~")) or "\\" in name:
        raise ModelError(
            f"Model folder `{name}` does not exist. Give a folder with config.json, tokenizer and "
            "safetensors weights, a Hugging Face hub id, or `embedded`."
        )
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        files = ["*.safetensors", "*.json", "tokenizer.model", "*.jinja"]
        return Path(snapshot_download(name, allow_patterns=files))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as exc:
        raise ModelError(
            f"Model `{name}` is neither a local folder nor can it be fetched from the hub: {exc}. "
            "Check the name and the network, or use `embedded`."
        ) from exc
