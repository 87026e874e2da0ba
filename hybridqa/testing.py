"""Fakes that stand in for models: deterministic, fast, offline. For our tests and for yours."""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hybridqa.protocols import ChunkIndex, Generation, Generator, Judgement, Locator, Prompt
from hybridqa.types import (
    Adapter,
    Chunk,
    Document,
    DocumentRecord,
    DocumentSignals,
    Internalized,
    LoraLayer,
    Signal,
)

if TYPE_CHECKING:
    import torch
    from tokenizers import Tokenizer

    from hybridqa.engines.answer import Answerer
    from hybridqa.engines.ingest import Ingestor
    from hybridqa.engines.retrieve import Retriever
    from hybridqa.internalize.associative import AssociativeInternalizer
    from hybridqa.internalize.hypernetwork import AssociativeHypernetwork
    from hybridqa.internalize.locator import TorchLocator
    from hybridqa.models.base import BaseModel
    from hybridqa.stores.catalog import Catalog

_WORD = re.compile(r"\w+")
_SENTENCE = re.compile(r"[^.!?\n]+[.!?]?")
_MODULE = "model.layers.0.mlp.down_proj"
_D_IN, _D_OUT = 64, 32
"""Of `_MODULE` in `tiny_model`."""


class FakeEmbedder:
    """An `Embedder` of hashed bags of words: texts are similar as far as they share words."""

    def __init__(self, dimension: int = 64, fingerprint: str = "fake-bag-of-words") -> None:
        self._dimension, self._fingerprint = dimension, fingerprint

    @property
    def dimension(self) -> int:
        return self._dimension

    @property
    def fingerprint(self) -> str:
        return self._fingerprint

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return unit vectors of shape (len(texts), dimension), also of texts without words."""
        vectors = np.zeros((len(texts), self._dimension), dtype=np.float32)
        for vector, text in zip(vectors, texts, strict=True):
            for word in _WORD.findall(text.lower()) or [""]:
                vector[zlib.crc32(word.encode("utf-8", "surrogatepass")) % self._dimension] += 1.0
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors


class FakeAsker:
    """A `Generator` that asks about any span and finds it again: a flawless reader without a model.

    It knows the request "Write a question about this text whose answer is: X", asks "Question N?",
    and when given that question answers X, as a quote where the prompt allows quoting only.
    """

    model_fingerprint = "fake-asker"

    def __init__(self) -> None:
        self._answers: dict[str, str] = {}
        self.prompts: list[Prompt] = []
        """All that was ever asked of it."""

    def generate(self, prompts: Sequence[Prompt]) -> list[Generation]:
        """Return one generation per prompt; an empty one where the question is unknown."""
        self.prompts += prompts
        return [self._generate(prompt) for prompt in prompts]

    def score(self, prompts: Sequence[Prompt], answers: Sequence[str]) -> list[float]:
        """Return 0.9 for the answer it would give, else 0.1."""
        own = [self._generate(prompt).text for prompt in prompts]
        return [0.9 if text == answer else 0.1 for text, answer in zip(own, answers, strict=True)]

    def judge(self, prompts: Sequence[Prompt], answers: Sequence[Sequence[str]]) -> list[Judgement]:
        """Return the logarithms of what `score` returns; one token is read."""
        return [
            Judgement([math.log(s) for s in self.score([prompt] * len(each), each)], 1)
            for prompt, each in zip(prompts, answers, strict=True)
        ]

    def stream(self, prompt: Prompt) -> Iterator[str]:
        """Yield the whole answer at once."""
        yield self._generate(prompt).text

    def forget(self, realm: str) -> None:
        """Keep no prompts but `prompts`."""

    def _generate(self, prompt: Prompt) -> Generation:
        _, asked, answer = prompt.question.partition("whose answer is: ")
        if asked:
            text = f"Question {len(self._answers)}?"
            self._answers[text] = answer
            return _generation(text, None)
        text = self._answers.get(prompt.question, "")
        for index, source in enumerate(prompt.quote_from or ()):
            if text and (start := source.find(text)) >= 0:
                return _generation(text, (index, start, start + len(text)))
        return _generation("" if prompt.quote_from is not None else text, None)


class FakeInternalizer:
    """An `Internalizer` that writes each chunk's text into its share of the weights, as bytes.

    `FakeGenerator` reads them back, so a test sees which text an answer's adapter was made from.
    The adapters fit `tiny_model`, whose output they do not change.
    """

    name = "fake"

    def __init__(
        self,
        model_fingerprint: str = "fake-model",
        fingerprint: str = "fake-internalizer",
        error: Exception | None = None,
    ) -> None:
        """Keep the arguments.

        Args:
            model_fingerprint: Of the base model that its adapters claim to be for.
            fingerprint: Equal ones make equal adapters.
            error: Raised instead of making any.
        """
        self._model_fingerprint, self.fingerprint, self._error = (
            model_fingerprint,
            fingerprint,
            error,
        )

    def internalize(self, document: Document, chunks: Sequence[Chunk]) -> Internalized:
        """Return an adapter with one share per chunk; see `protocols.Internalizer`."""
        import torch

        if self._error is not None:
            raise self._error
        texts = [chunk.text.encode() for chunk in chunks]
        rows = max(-(-len(text) // _D_IN) for text in texts)
        written = b"".join(text.ljust(rows * _D_IN, b"\0") for text in texts)
        down = torch.tensor(list(written)).reshape(-1, _D_IN).bfloat16()  # exact up to 256
        layer = LoraLayer(down, torch.zeros(_D_OUT, len(down), dtype=torch.bfloat16))
        return Internalized(
            adapter=Adapter("fake", {_MODULE: layer}, self._model_fingerprint),
            task_adapter=None,
            rank=len(down),
            energy=1.0,
            shares=tuple((chunk.start, chunk.end) for chunk in chunks),
            seconds=0.0,
        )


def written_text(adapter: Adapter) -> str:
    """Return what `FakeInternalizer` wrote into an adapter."""
    if _MODULE not in adapter.layers:
        return ""
    written = bytes(int(value) for value in adapter.layers[_MODULE].down.flatten())
    return "\n".join(part.decode() for part in re.split(b"\0+", written) if part)


def best_sentence(question: str, texts: Sequence[str]) -> str:
    """Return the sentence of the texts that shares most words with the question, "" if none."""
    asked = set(_WORD.findall(question.casefold()))
    best, most = "", 0
    for text in texts:
        for sentence in _SENTENCE.findall(text):
            shared = len(asked & set(_WORD.findall(sentence.casefold())))
            if shared > most:
                best, most = sentence.strip(), shared
    return best


class FakeGenerator:
    """A `Generator` that picks its answer from what it sees, instantly.

    It sees the passages of a prompt, or else what `FakeInternalizer` wrote into its adapters.
    """

    def __init__(
        self,
        answer: Callable[[str, Sequence[str]], str] = best_sentence,
        confidence: Callable[[Prompt], float] = lambda prompt: 0.9,
        model_fingerprint: str = "fake-model",
    ) -> None:
        """Keep the arguments.

        Args:
            answer: Called with the question and the texts seen; "" abstains. What cannot be quoted
                where quoting is demanded abstains too.
            confidence: Of the answer to a prompt, in (0, 1].
            model_fingerprint: Of the base model that it claims to run.
        """
        self._answer, self._confidence = answer, confidence
        self.model_fingerprint = model_fingerprint
        self.prompts: list[Prompt] = []
        """All that was ever asked of it."""

    def generate(self, prompts: Sequence[Prompt]) -> list[Generation]:
        self.prompts += prompts
        return [self._generate(prompt) for prompt in prompts]

    def score(self, prompts: Sequence[Prompt], answers: Sequence[str]) -> list[float]:
        """Return 0.9 for answers that stand in a passage of their prompt, else 0.1."""
        return [
            0.9 if any(answer in passage for passage in prompt.passages) else 0.1
            for prompt, answer in zip(prompts, answers, strict=True)
        ]

    def judge(self, prompts: Sequence[Prompt], answers: Sequence[Sequence[str]]) -> list[Judgement]:
        """Return the logarithms of what `score` returns; one token is read."""
        return [
            Judgement([math.log(s) for s in self.score([prompt] * len(each), each)], 1)
            for prompt, each in zip(prompts, answers, strict=True)
        ]

    def stream(self, prompt: Prompt) -> Iterator[str]:
        """Yield the whole answer at once."""
        yield self.generate([prompt])[0].text

    def forget(self, realm: str) -> None:
        """Keep no prompts but `prompts`."""

    def _generate(self, prompt: Prompt) -> Generation:
        prompt = prompt.without_places
        seen = prompt.passages or [written_text(adapter) for adapter in prompt.adapters]
        text = self._answer(prompt.question, seen)
        logprob = math.log(self._confidence(prompt))
        if prompt.quote_from is None:
            return _generation(text, None, logprob)
        for index, source in enumerate(prompt.quote_from):
            if text and (start := source.find(text)) >= 0:
                return _generation(text, (index, start, start + len(text)), logprob)
        return _generation("", None, logprob)


class FakeSystem:
    """Everything but the models, on real stores in a folder: for tests of what lies between.

    The attributes may be replaced before an engine is built from them.
    """

    def __init__(self, folder: Path, policy: str = "default") -> None:
        """Open or create the stores.

        Args:
            folder: Exists; belongs to the system alone.
            policy: As in a config file.
        """
        from hybridqa.chunking import Chunker
        from hybridqa.stores.adapters import AdapterStore
        from hybridqa.stores.catalog import Catalog
        from hybridqa.stores.edge_index import EdgeIndex
        from hybridqa.wiring import load_policy

        (folder / "adapters").mkdir(exist_ok=True)
        self.embedder = FakeEmbedder()
        self.catalog = Catalog(folder / "catalog.sqlite")
        self.index: ChunkIndex = EdgeIndex(folder / "index", self.embedder)
        self.adapters = AdapterStore(folder / "adapters", self.catalog, "fake/model")
        self.chunker = Chunker(_word_tokenizer(), max_tokens=40)
        self.generator: Generator = FakeGenerator()
        self.locator: Locator | None = None
        self.policy = load_policy(policy)
        self.passages = 3
        self.now = datetime(2026, 11, 22, 12, tzinfo=UTC)

    def close(self) -> None:
        self.index.close()
        self.catalog.close()

    def ingestor(self) -> Ingestor:
        from hybridqa.engines.ingest import Ingestor

        return Ingestor(
            self.catalog,
            self.index,
            self.adapters,
            self.embedder,
            self.chunker,
            lambda: self.now,
        )

    def retriever(self) -> Retriever:
        from hybridqa.engines.retrieve import Retriever

        return Retriever(self.embedder, self.index, self.catalog)

    def answerer(self, retriever: Retriever | None = None) -> Answerer:
        from hybridqa.engines.answer import Answerer
        from hybridqa.engines.route import Router

        router = Router(
            self.catalog,
            retriever or self.retriever(),
            lambda: self.policy,
            self.generator.model_fingerprint,
            task_adapter_ids=frozenset(),
            hits=self.passages,
            clock=lambda: self.now,
        )
        return Answerer(
            router,
            self.generator,
            self.adapters,
            task_adapters={},
            reader=None,
            passages=self.passages,
            max_tokens=32,
            max_question_chars=400,
            locator=self.locator,
        )


def _word_tokenizer() -> Tokenizer:
    """Return a tokenizer with one token per word or mark, all of them unknown to it."""
    from tokenizers import Tokenizer, pre_tokenizers
    from tokenizers.models import WordLevel

    tokenizer = Tokenizer(WordLevel({"?": 0}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return tokenizer


def _generation(text: str, span: tuple[int, int, int] | None, logprob: float = -0.1) -> Generation:
    count = len(text.split()) + 1
    return Generation(
        text=text,
        token_ids=tuple(range(count)),
        logprobs=(logprob,) * count,
        span=span,
        abstained=not text,
        prompt_tokens=1,
        first_token_s=0.0,
        seconds=0.0,
    )


def commit_document(catalog: Catalog, document: Document) -> None:
    """Make a document live in a catalog, without chunks in any index."""
    now = datetime.now(UTC)
    nothing = Signal(value=0)
    record = DocumentRecord(
        document=document,
        signals=DocumentSignals(volatility=nothing, citation_need=nothing),
        chunks=1,
        ingested_at=now,
        first_ingested_at=now,
    )
    catalog.begin(document.id, document.content_hash)
    catalog.commit(record)


def tiny_model(seed: int = 0, layers: int = 4) -> BaseModel:
    """Return a random Llama in float32 that reads bytes: real code paths in milliseconds.

    Its tokenizer has one token per byte and a chat template with `<|im_start|>` and `<|im_end|>`.
    """
    import torch
    from tokenizers import Tokenizer, decoders, pre_tokenizers
    from tokenizers.models import BPE
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    from hybridqa.models.base import BaseModel

    special = ["<|im_start|>", "<|im_end|>"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    raw = Tokenizer(BPE({token: n for n, token in enumerate(special + alphabet)}, []))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    raw.add_special_tokens(special)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw, bos_token=special[0], eos_token=special[1], pad_token=special[1]
    )
    tokenizer.chat_template = (
        "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}"
        "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    config = LlamaConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=4096,
        vocab_size=len(special) + len(alphabet),
        initializer_range=0.2,  # large enough that what stands in the prompt changes the output
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config).eval().requires_grad_(False)
    return BaseModel("tiny-random-llama", f"tiny-random-llama-{layers}-{seed}", model, tokenizer)


def tiny_network(
    base: BaseModel, generator: torch.Generator, first_layer: int = 2
) -> AssociativeHypernetwork:
    """Return a network with random weights for the layers of `tiny_model` from one on."""
    import torch

    from hybridqa.internalize.hypernetwork import AssociativeConfig, AssociativeHypernetwork

    config = AssociativeConfig(
        model_fingerprint=base.fingerprint,
        first_layer=first_layer,
        last_layer=4,
        hidden=_D_OUT,
        intermediate=_D_IN,
        width=16,
        heads=2,
        blocks=1,
        whitening=8,
        max_distance=8,
    )
    network = AssociativeHypernetwork(config)
    for tensor in [*network.parameters(), *network.buffers()]:
        tensor.data = 0.2 * torch.randn(tensor.shape, generator=generator)
    return network


def tiny_associative(
    base: BaseModel, rank: int = 8, max_rank: int = 64, seed: int = 0
) -> AssociativeInternalizer:
    """Return an internalizer with random weights for the last two layers of `tiny_model`."""
    import torch

    from hybridqa.internalize.associative import AssociativeInternalizer

    generator = torch.Generator().manual_seed(seed)
    network = tiny_network(base, generator)
    task = {"model.layers.1.mlp.down_proj": LoraLayer(torch.ones(1, _D_IN), torch.ones(_D_OUT, 1))}
    return AssociativeInternalizer(
        base,
        network.eval().requires_grad_(False),
        Adapter("task", task, base.fingerprint),
        "hash",
        rank=rank,
        max_rank=max_rank,
        max_chunks=8,
    )


def tiny_encoder(folder: Path) -> Path:
    """Write a random BERT that reads letters, whose words are single letters and `##` ones."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizer

    letters = [chr(n) for n in range(33, 127) if not chr(n).isupper()]
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters]
    vocabulary += [f"##{letter}" for letter in letters]
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=64,
        initializer_range=0.2,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        BertModel(config).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
    BertTokenizer.from_pretrained(folder).save_pretrained(folder)
    return folder


def tiny_locator() -> TorchLocator:
    """Return a locator with random weights over `tiny_encoder`, which finds something anywhere."""
    import tempfile

    from hybridqa.internalize.locator import TorchLocator, load_encoder
    from hybridqa.internalize.locator_network import LocatorConfig, LocatorNetwork
    from hybridqa.models.turns import Turns

    with tempfile.TemporaryDirectory() as folder:
        encoder, tokenizer, fingerprint = load_encoder(str(tiny_encoder(Path(folder))))
    config = LocatorConfig(
        encoder_fingerprint=fingerprint, lower=1, width=16, piece_tokens=45, span_tokens=8
    )
    network = LocatorNetwork(config, encoder).eval().requires_grad_(False)
    return TorchLocator(network, tokenizer, "ab" * 32, Turns())
