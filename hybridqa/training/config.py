"""What a training run does: `configs/train/NAME.yaml`, strictly read."""

from __future__ import annotations

from dataclasses import field
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field
from pydantic.dataclasses import dataclass

from hybridqa.config import STRICT

_COUNT = Annotated[int, Field(ge=1)]
_SHARE = Annotated[float, Field(ge=0, le=1)]
_WEIGHT = Annotated[float, Field(ge=0)]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class SourceConfig:
    """Passages with questions, or with none."""

    path: str
    """gzip or plain JSON Lines of `context` and `qas`; or a folder of texts."""
    weight: _WEIGHT = 1.0
    """Passages a passage of this source counts as when they are drawn."""
    part: tuple[_SHARE, _SHARE] = (0.0, 1.0)
    """Of its passages, in their order, those from one share to another, e.g. [0, 0.8]."""

    def __post_init__(self) -> None:
        if self.part[0] >= self.part[1]:
            raise ValueError(f"`part:` of `{self.path}` must begin before it ends")


def _source(told: Any) -> Any:
    return {"path": told} if isinstance(told, str) else told


@dataclass(frozen=True, kw_only=True, config=STRICT)
class NetworkConfig:
    """Shape of the network; see `AssociativeConfig`."""

    first_layer: Annotated[int, Field(ge=0)]
    last_layer: _COUNT
    state_layer: _COUNT
    tower_first: Annotated[int, Field(ge=0)] = 0
    tower_last: Annotated[int, Field(ge=0)] = 0
    tower_rank: _COUNT = 16
    fresh: bool = False
    """Whether to begin with random weights, in the shape of the checkpoint that is started from,
    of which only what is counted rather than learned is kept: the whitening of the keys."""
    rank: _COUNT | None = None
    """To which updates are compressed in training, too, so that what matters is in their first
    directions; by default they are learned whole. Several times slower on a CPU."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class PerceiverShape:
    """Shape of a new Perceiver; see `PerceiverConfig`. Its scaling is Doc-to-LoRA's, 2 r^1.5."""

    first_layer: Annotated[int, Field(ge=0)]
    last_layer: _COUNT
    """Target layers are `first_layer` up to, not including, `last_layer`."""
    modules: Annotated[tuple[str, ...], Field(min_length=1)] = ("down_proj",)
    encoder: Literal["early_exit", "per_layer_activations", "embed_only"] = "early_exit"
    encoder_blocks: _COUNT
    rank: _COUNT = 8
    latent: _COUNT = 512
    latents: _COUNT = 8
    blocks: _COUNT = 8
    heads: _COUNT = 16
    kv_heads: _COUNT = 4
    head_dim: _COUNT = 128

    def __post_init__(self) -> None:
        if self.first_layer >= self.last_layer:
            raise ValueError("`first_layer` must be less than `last_layer`")


@dataclass(frozen=True, kw_only=True, config=STRICT)
class TasksConfig:
    """What is asked about a passage, and how much of it."""

    questions: _COUNT = 3
    """Of a passage's own, at most."""
    cloze: Annotated[int, Field(ge=0)] = 2
    """Made from the passage's sentences by leaving out a span and some words; a locator is asked
    them only in place of `questions` that a passage lacks."""
    facts: _SHARE = 0.1
    """Passages that are invented facts."""
    foreign: _SHARE = 0.2
    """Passages that are also asked a question of another: an adapter must not change its answer, a
    locator must find none."""
    texts: _SHARE = 0.0
    """Passages that are read on in another: an adapter must not change what is expected there."""
    cut: _SHARE = 0.0
    """Passages that lose the sentences which answer a question: a locator must find nothing."""
    altered: _SHARE = 0.0
    """Passages that are asked about another name or number: a locator must find nothing."""
    shortened: _SHARE = 0.0
    """Passages of which only some sentences in a row are left, with what these answer."""
    thinned: _SHARE = 0.0
    """Questions that lose some of their words, so that none learns to know them by heart."""
    several: _SHARE = 0.0
    """Batches in which a passage's update is worn together with others': a hypernetwork must write
    such as do not disturb each other, as the chunks of a long document must not."""
    at_once: Annotated[int, Field(ge=2)] = 8
    """Of `several`, updates that are worn at most; their number is drawn from 2 on."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ReadingConfig:
    """What a reader is asked: of each passage of a group of neighbours, which share rare words."""

    passages: _COUNT = 3
    """In a group."""
    neighbours: _COUNT = 8
    """Of a passage, from which its group is drawn."""
    questions: _COUNT = 2
    """Of each passage's own, at most."""
    among: _SHARE = 0.4
    """Questions that see their passage among its neighbours; the others see it alone."""
    absent: _SHARE = 0.12
    """Questions that see the neighbours without it, which do not say."""
    asking: _SHARE = 0.2
    """Answers, instead, for which their passage's question is to be written."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class LocatorShape:
    """Shape of a locator, which is begun with an encoder; see `LocatorConfig`."""

    encoder: str = "embedded"
    lower: _COUNT = 2
    width: _COUNT = 128
    span_tokens: _COUNT = 24


@dataclass(frozen=True, kw_only=True, config=STRICT)
class LossConfig:
    """Weights of the losses; the answers' cross-entropy has 1."""

    span: _WEIGHT = 0.5
    first_token: _WEIGHT = 2.0
    """Weight of an answer's first token; the others have 1."""
    foreign: _WEIGHT = 0.5
    soft: _WEIGHT = 0.0
    """Of what the model itself says with the passage in its prompt: its 16 likeliest tokens."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class EvaluationConfig:
    """Evaluation while training: right, wrong and no adapter, and the passage in the prompt."""

    sets: dict[str, Annotated[SourceConfig, BeforeValidator(_source)]] = field(default_factory=dict)
    """Paths or parts as for sources, by name; none of them in training."""
    questions: _COUNT = 64
    every: _COUNT = 250
    """Steps."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class TrainConfig:
    """One training run."""

    model: str = "embedded"
    dtype: Literal["bfloat16", "float32"] = "bfloat16"
    device: str = "auto"
    start: str = "embedded"
    """Folder of a checkpoint, or of a reader, to start from; `embedded` is the shipped one. No
    Perceiver is shipped: it begins with random weights."""
    task_adapter: str | None = None
    """Folder of the task adapter that a hypernetwork begins with, by default its checkpoint's;
    `embedded` is the shipped reader, with which a new Perceiver begins by default."""
    network: NetworkConfig | None = None
    """An associative hypernetwork to be trained, with the adapters that go with it."""
    perceiver: PerceiverShape | None = None
    """A Perceiver hypernetwork to be trained, with its task adapter."""
    reading: ReadingConfig | None = None
    """How a reader is taught: the task adapter under the arms that read passages."""
    locator: LocatorShape | None = None
    """To be trained: finds answers in what is kept of a document beside its adapter."""
    sources: list[SourceConfig]
    tasks: TasksConfig = field(default_factory=TasksConfig)
    losses: LossConfig = field(default_factory=LossConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    passage_tokens: _COUNT = 240
    batch: _COUNT = 16
    """Passages a step."""
    steps: Annotated[int, Field(ge=0)] = 2000
    """None: only what is prepared for training is saved, such as places."""
    minutes: Annotated[float, Field(gt=0)] | None = None
    """After which training ends if not all steps are done, evaluations counted in; the learning
    rate then falls by time."""
    ahead: Annotated[int, Field(ge=0)] = 0
    """Batches that a second thread has ready, wanted where a GPU would wait for them."""
    workers: Annotated[int, Field(ge=0)] = 0
    """Processes that make them in place of that thread."""
    warmup: _COUNT = 30
    decay: _SHARE = 0.25
    """Share of the steps, the last, in which the learning rates fall to zero along a line."""
    learning_rate: Annotated[float, Field(gt=0)] = 4e-4
    adapter_learning_rate: Annotated[float, Field(gt=0)] = 2e-4
    """Of the task adapter, the tower's LoRA and a locator's encoder; a reader has no other."""
    frozen: list[str] = field(default_factory=list)
    """Parameters that do not learn, by patterns of their names, such as `tower.*`: the first layers
    cost the most time, as gradients must come all the way to them."""
    weight_decay: _WEIGHT = 0.01
    average: _SHARE = 0.99
    """Of the weights' running average, what a step leaves of it."""
    save_every: _COUNT = 50
    """Steps."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.workers and not self.ahead:
            raise ValueError("`workers:` make what is wanted next: give `ahead:`, too")
        kinds = (self.network, self.perceiver, self.reading, self.locator)
        if sum(each is not None for each in kinds) != 1:
            raise ValueError(
                "give one of `network:`, `perceiver:`, `reading:` and `locator:`: what is trained"
            )
