"""Keep places of texts and find answers in them; the network is told of in `locator_network`."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise
from operator import attrgetter
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from hybridqa.config import validate
from hybridqa.errors import ConfigError, ModelError
from hybridqa.internalize.checkpoint import dequantize, quantize
from hybridqa.internalize.locator_network import (
    NEVER,
    LocatorConfig,
    LocatorNetwork,
    span_logits,
)
from hybridqa.models.embedder import local_folder
from hybridqa.models.fingerprint import fingerprint_weights
from hybridqa.models.padding import padded
from hybridqa.models.places import Piece, packed, unpacked
from hybridqa.models.turns import Turns
from hybridqa.protocols import Look
from hybridqa.types import Chunk, Place, Places

_CONFIG, _WEIGHTS = "config.json", "model.safetensors"
_LONGEST_QUESTION = 96
"""Tokens; of a longer question, the last of these."""
_BATCH = 8
"""Pieces computed together."""


class Tokenized:
    """A piece of a text: its tokens, which characters they are, and where answers may begin."""

    def __init__(self, tokenizer: Any, text: str, longest: int | None = None) -> None:
        told = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        self.ids: list[int] = told["input_ids"][:longest]
        self.spans: list[tuple[int, int]] = told["offset_mapping"][:longest]
        starts = [text[a:b].strip() != "" for a, b in self.spans]
        inside = [
            a == before and text[a - 1 : a].isalnum() and text[a : a + 1].isalnum()
            for (_, before), (a, _) in zip([(-1, -1), *self.spans], self.spans, strict=False)
        ]
        self.begins = [real and not within for real, within in zip(starts, inside, strict=True)]
        self.closes = [
            real and not within for real, within in zip(starts, [*inside[1:], False], strict=False)
        ]


class TorchLocator:
    """A `Locator`; threads may share it."""

    def __init__(self, network: LocatorNetwork, tokenizer: Any, fingerprint: str, lock: Turns):
        """Wire the pieces; `from_checkpoint` loads them.

        Args:
            network: In evaluation mode.
            tokenizer: The encoder's, fast.
            fingerprint: Of all weights: others' places are not understood.
            lock: All is computed in its turns.
        """
        self.network, self.fingerprint = network, fingerprint
        self._tokenizer, self._lock = tokenizer, lock
        self._first, self._last = tokenizer.cls_token_id, tokenizer.sep_token_id

    @classmethod
    def from_checkpoint(
        cls,
        folder: Path,
        lock: Turns | None = None,
        dtype: torch.dtype = torch.float32,
        device: str | torch.device = "cpu",
    ) -> TorchLocator:
        """Load a locator.

        Raises:
            ModelError: It is not one, or its encoder cannot be had or has other weights.
        """
        lock = lock or Turns()
        try:
            text = (folder / _CONFIG).read_text()
            config = validate(LocatorConfig, json.loads(text), str(folder / _CONFIG))
            raw = (folder / _WEIGHTS).read_bytes()
        except (OSError, ValueError, ConfigError) as exc:
            raise _unreadable(folder, exc) from exc
        encoder, tokenizer, found = lock.run(partial(load_encoder, config.encoder))
        if found != config.encoder_fingerprint:
            raise ModelError(
                f"Locator `{folder}` was trained on an encoder with fingerprint "
                f"`{config.encoder_fingerprint[:12]}`, but `{config.encoder}` has "
                f"`{found[:12]}`. Install that encoder, or set `internalize: locator:` to `null`."
            )

        def load() -> LocatorNetwork:
            network = LocatorNetwork(config, encoder)
            state = dequantize(load_file(folder / _WEIGHTS))
            if state.keys() != network.own_state().keys():
                odd = sorted(state.keys() ^ network.own_state().keys())[0]
                raise ValueError(f"`{odd}` is missing, or is none of its weights")
            network.load_state_dict({**network.state_dict(), **state})
            return network.to(device, dtype).eval().requires_grad_(False)

        try:
            network = lock.run(load)
        except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as exc:
            raise _unreadable(folder, exc) from exc
        digest = hashlib.sha256(text.encode())
        digest.update(raw)
        return cls(network, tokenizer, digest.hexdigest(), lock)

    def keep(self, chunks: Sequence[Chunk]) -> Places:
        """Return the places of a document; see `protocols.Locator`."""
        return self._read([[(chunk.start, chunk.text) for chunk in chunks]])[0]

    def locate(self, looks: Sequence[Look]) -> list[Sequence[Place]]:
        """Return where each question is likeliest answered, best first; nowhere in an empty text.

        A place's share is that of the span among all spans of its piece and "nowhere". All is
        computed in few batches; texts and questions that are the same are read once.

        Raises:
            ModelError: Places are another locator's.
        """
        for look in looks:
            if isinstance(look.text, Places) and look.text.locator != self.fingerprint:
                raise ModelError(
                    f"These places were kept by the locator `{look.text.locator[:12]}`, and this "
                    f"one is `{self.fingerprint[:12]}`. Internalize the document anew."
                )
        texts = list(dict.fromkeys(look.text for look in looks if isinstance(look.text, str)))
        read = dict(zip(texts, self._read([[(0, text)] for text in texts]), strict=True))
        asked = [
            replace(look, text=read[look.text]) if isinstance(look.text, str) else look
            for look in looks
        ]
        return self._lock.run(partial(self._located, asked)) if asked else []

    def _read(self, texts: Sequence[Sequence[tuple[int, str]]]) -> list[Places]:
        """Return the places of texts, each given as its parts and where they begin."""
        pieces = [
            [(start + at, piece) for start, part in text for at, piece in self._pieces(part)]
            for text in texts
        ]
        every = [piece for text in pieces for _, piece in text]
        order = sorted(range(len(every)), key=lambda n: len(every[n].ids))
        rows: dict[int, Tensor] = {}
        for n in range(0, len(order), _BATCH):
            batch = order[n : n + _BATCH]
            kept = self._lock.run(partial(self._kept, [every[m] for m in batch]))
            rows.update(zip(batch, kept, strict=True))
        numbers = iter(range(len(every)))
        return [
            packed(
                [rows[next(numbers)] for _ in text],
                [(shift + a, shift + b) for shift, piece in text for a, b in piece.spans],
                [begins for _, piece in text for begins in piece.begins],
                [closes for _, piece in text for closes in piece.closes],
                self.fingerprint,
            )
            for text in pieces
        ]

    @torch.inference_mode()
    def _kept(self, pieces: Sequence[Tokenized]) -> list[Tensor]:
        ids, mask = padded([[self._first, *p.ids, self._last] for p in pieces], self._device)
        kept = self.network.keep(ids, mask).float()
        return [row[: len(p.ids) + 2].cpu() for row, p in zip(kept, pieces, strict=True)]

    @torch.inference_mode()
    def _located(self, looks: Sequence[Look]) -> list[Sequence[Place]]:
        found: list[list[Place]] = [[] for _ in looks]
        pieces = [
            (n, piece)
            for n, look in enumerate(looks)
            if isinstance(look.text, Places)
            for piece in unpacked(look.text)
        ]
        pieces.sort(key=lambda each: len(each[1].states))  # like lengths together
        questions = {q: n for n, q in enumerate(dict.fromkeys(look.question for look in looks))}
        ids, mask = padded([self.question_ids(question) for question in questions], self._device)
        states = self.network.alone(ids, mask, asked=True)
        for first in range(0, len(pieces), _BATCH):
            batch = pieces[first : first + _BATCH]
            rows = [questions[looks[n].question] for n, _ in batch]
            most = max(looks[n].most for n, _ in batch)
            places = self._looked(states[rows], mask[rows], [piece for _, piece in batch], most)
            for (n, _), its in zip(batch, places, strict=True):
                found[n] += its
        return [
            sorted(each, key=attrgetter("odds"), reverse=True)[: look.most]
            for each, look in zip(found, looks, strict=True)
        ]

    def _looked(
        self, asked: Tensor, mask: Tensor, pieces: Sequence[Piece], most: int
    ) -> list[list[Place]]:
        """Return the best places of each piece, given states and mask of its question."""

        def filled(rows: Sequence[Tensor]) -> Tensor:
            return pad_sequence(list(rows), batch_first=True).to(self._device)

        kept = filled([piece.states for piece in pieces]).to(asked.dtype)
        seen = filled([torch.ones(len(piece.states), dtype=torch.long) for piece in pieces])
        ends, nowhere = self.network.together(asked, mask, kept, seen)
        begins, closes = (
            filled([getattr(piece, name) for piece in pieces]) for name in ("begins", "closes")
        )
        logits = span_logits(ends, begins, closes, self.network.config.span_tokens)
        shares = torch.cat([logits.flatten(1), nowhere[:, None]], 1).softmax(-1)
        likeliest, at = shares[:, :-1].topk(min(most, shares.shape[1] - 1), -1)
        may_be = logits.flatten(1).gather(1, at) > NEVER / 2
        places: list[list[Place]] = []
        for n, piece in enumerate(pieces):
            none, its = float(shares[n, -1]), []
            for share, spot, real in zip(
                likeliest[n].tolist(), at[n].tolist(), may_be[n].tolist(), strict=True
            ):
                length, first = divmod(spot, logits.shape[2])
                if real:  # or else no answer may begin or end there
                    start, end = int(piece.spans[first, 0]), int(piece.spans[first + length, 1])
                    its.append(Place(start=start, end=end, share=share, nowhere=none))
            places.append(its)
        return places

    def question_ids(self, question: str) -> list[int]:
        return question_ids(self._tokenizer, question)

    def _pieces(self, text: str) -> list[tuple[int, Tokenized]]:
        """Return pieces and where they begin: too long a text is cut into like lengths."""
        tokens = Tokenized(self._tokenizer, text)
        longest = self.network.config.piece_tokens
        count = -(-len(tokens.ids) // longest)
        if count <= 1:
            return [(0, tokens)] if tokens.ids else []
        words = [a for (a, _), begins in zip(tokens.spans, tokens.begins, strict=True) if begins]
        cuts = [0, len(text)]
        for n in range(1, count):
            even = tokens.spans[len(tokens.ids) * n // count][0]
            cuts.append(max((a for a in words if a <= even), default=even))
        cuts = sorted(set(cuts))
        spans = [(a, b) for a, b in pairwise(cuts) if text[a:b].strip()]
        return [(a, Tokenized(self._tokenizer, text[a:b])) for a, b in spans]

    @property
    def _device(self) -> torch.device:
        return self.network.narrow.weight.device


def question_ids(tokenizer: Any, question: str) -> list[int]:
    """Return a question's tokens, with the special ones."""
    ids = tokenizer(question, add_special_tokens=False, verbose=False)["input_ids"]
    return [tokenizer.cls_token_id, *ids[-_LONGEST_QUESTION:], tokenizer.sep_token_id]


def load_encoder(name: str) -> tuple[Any, Any, str]:
    """Return an encoder, its fast tokenizer and the fingerprint of its weights.

    Raises:
        ModelError: It cannot be found, or is not of the kind.
    """
    from transformers import AutoModel, AutoTokenizer

    folder = local_folder(name)
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        encoder = AutoModel.from_pretrained(
            folder,
            local_files_only=True,
            dtype=torch.float32,
            attention_probs_dropout_prob=0.0,  # without it attention is one fused operation
        )
        _ = encoder.embeddings, encoder.encoder.layer, tokenizer.cls_token_id + 0
    except Exception as exc:  # whatever a wrong file makes the libraries raise
        raise ModelError(
            f"The encoder `{name}` in `{folder}` cannot be used by a locator: {exc}. It must be "
            "like BERT, as `embedded` is."
        ) from exc
    return encoder, tokenizer, fingerprint_weights(folder)


def save_locator(folder: Path, network: LocatorNetwork) -> None:
    """Write a locator, its matrices in 8 bits; the embeddings are the encoder's."""
    folder.mkdir(parents=True, exist_ok=True)
    config = json.dumps(dataclasses.asdict(network.config), indent=2)
    (folder / _CONFIG).write_text(config + "\n")
    save_file(quantize(network.own_state()), folder / _WEIGHTS)


def _unreadable(folder: Path, exc: Exception) -> ModelError:
    return ModelError(
        f"Locator `{folder}` cannot be read: {exc}. It must hold `{_CONFIG}` and `{_WEIGHTS}`; "
        "reinstall hybridqa, train one, or set `internalize: locator:` to `null`."
    )
