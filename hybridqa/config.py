"""Frozen settings and strict YAML loading: an unknown key or a wrong type is an error."""

from __future__ import annotations

from dataclasses import field
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from hybridqa.errors import ConfigError

_TOLD = 10
"""Errors of one file."""

T = TypeVar("T")

STRICT = ConfigDict(extra="forbid", use_attribute_docstrings=True)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ModelConfig:
    """Which language model answers, and what it wears under every arm."""

    name: str = "embedded"
    """`embedded` (SmolLM2-135M-Instruct), a Hugging Face hub id, or a local folder."""

    dtype: Literal["bfloat16", "float32", "float16"] = "bfloat16"
    device: str = "auto"
    """`auto` takes a GPU where there is one; otherwise a torch device name."""

    reader: str | None = "embedded"
    """Task adapter (a PEFT folder) that lies under every arm; `null` for models that can read."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class IndexConfig:
    """Where chunks are kept and how they are found."""

    url: str | None = None
    """Qdrant server; `null` keeps the index in the home directory, in this process."""

    api_key_env: str = "QDRANT_API_KEY"
    """Environment variable that holds the server's API key, if it wants one."""

    collection: str = "hybridqa"
    tenant: str = "default"
    embedder: str = "embedded"
    """`embedded` (all-MiniLM-L6-v2), a sentence-transformers hub id, or a local folder."""

    chunk_tokens: Annotated[int, Field(ge=32, le=230)] = 220
    """Longest chunk, in tokens of the language model."""


InternalizerName = Literal["associative", "perceiver", "refinement", "distillation", "none"]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class InternalizeConfig:
    """How documents become adapters."""

    internalizer: InternalizerName = "associative"
    hypernetwork: str = "embedded"
    """Checkpoint folder of the hypernetwork, of the internalizer's kind; `embedded` ships with the
    package and is associative."""

    locator: str | None = "embedded"
    """Folder of what keeps places of documents beside their adapters and finds answers there, and
    in retrieved passages; `embedded` ships with the package. Without, the model quotes by itself,
    which is better where it reads well."""

    rank: Annotated[int, Field(ge=1, le=256)] = 64
    """Rank that each chunk's update is compressed to; chunks stand side by side in an adapter. A
    Perceiver has a rank of its own."""

    max_rank: Annotated[int, Field(ge=1, le=512)] = 128
    """Rank of a whole adapter; documents of more chunks get less for each."""

    low_memory: bool = False
    """Whether a Perceiver makes its adapters one chunk and one layer at a time."""

    max_chunks: Annotated[int, Field(ge=1)] = 256
    """Documents of more chunks are not internalized (they stay answerable by retrieval)."""

    distillation_steps: Annotated[int, Field(ge=1)] = 60
    distillation_questions: Annotated[int, Field(ge=1)] = 24
    """Questions the model asks itself about one document."""
    refinement_steps: Annotated[int, Field(ge=1)] = 20
    refinement_questions: Annotated[int, Field(ge=1)] = 16
    """The same for each share of an adapter that is improved."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class AnswerConfig:
    """Limits of one answer."""

    hits: Annotated[int, Field(ge=1, le=100)] = 5
    """Retrieved chunks that the router looks at."""

    passages: Annotated[int, Field(ge=1, le=32)] = 2
    """Best of them that stand in the prompt; the small default model reads more of them worse."""

    max_tokens: Annotated[int, Field(ge=1, le=1024)] = 32
    max_question_chars: Annotated[int, Field(ge=1)] = 4000


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ServeConfig:
    """Limits of the REST service."""

    max_body_bytes: Annotated[int, Field(ge=1024)] = 1_000_000
    """Of a request; uploads and documents have the next limit."""

    max_upload_bytes: Annotated[int, Field(ge=1024)] = 20_000_000
    """Of one request that brings documents."""

    max_documents: Annotated[int, Field(ge=1)] = 100
    """In one request."""

    max_asking: Annotated[int, Field(ge=1)] = 64
    """Questions being answered or waiting at a time; further ones are refused (429)."""

    max_asking_by_tenant: Annotated[int, Field(ge=1)] = 32
    """The same, of one tenant."""

    max_batch: Annotated[int, Field(ge=1, le=256)] = 16
    """Questions that the model works on together."""

    prompt_cache_bytes: Annotated[int, Field(ge=0)] = 512_000_000
    """Of what the model made of prompts that it has read, for those that begin alike."""

    max_jobs: Annotated[int, Field(ge=1)] = 256
    """Unfinished jobs of one tenant; further ones are refused (429)."""

    keep_jobs: Annotated[int, Field(ge=1)] = 1000
    """Finished jobs of one tenant that are remembered."""

    shutdown_s: Annotated[int, Field(ge=1)] = 30
    """How long answers in flight may take when the service is told to stop."""

    traces: bool = False
    """Send OpenTelemetry traces, to where the `OTEL_*` environment variables say (extra
    `telemetry`)."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Config:
    """Everything a hybridqa process needs to know. Read from `configs/*.yaml`."""

    model: ModelConfig = field(default_factory=ModelConfig)
    index: IndexConfig = field(default_factory=IndexConfig)
    internalize: InternalizeConfig = field(default_factory=InternalizeConfig)
    answer: AnswerConfig = field(default_factory=AnswerConfig)
    serve: ServeConfig = field(default_factory=ServeConfig)
    policy: str = "default"
    """Name of a policy in `configs/policy/`, or a path to a YAML file."""

    log_questions: bool = True
    """Keep what was asked and answered in the home's `questions.jsonl`, for `eval replay`."""


def validate(cls: type[T], data: Any, origin: str) -> T:
    """Return `data` as a `cls`.

    Args:
        data: As read from YAML.
        origin: Named in errors: a file or option.

    Raises:
        ConfigError: Unknown key, wrong type or value out of range; names key and value.
    """
    try:
        return TypeAdapter(cls).validate_python({} if data is None else data)
    except ValidationError as exc:
        lines = []
        for error in exc.errors()[:_TOLD]:
            where = ".".join(str(part) for part in error["loc"]) or "(top level)"
            lines.append(f"`{where}`: {error['msg']}, got {error['input']!r:.80}")
        if exc.error_count() > _TOLD:
            lines.append(f"and {exc.error_count() - _TOLD} more")
        raise ConfigError(
            f"`{origin}` is not valid: {'; '.join(lines)}. "
            f"The fields of `{cls.__name__}` are documented in `configs/`."
        ) from exc


def load_yaml(cls: type[T], path: Path) -> T:
    """Read a YAML file as a `cls`; nothing in it is executed.

    Raises:
        ConfigError: The file is missing, is not YAML, or does not fit `cls`.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(
            f"Settings file `{path}` cannot be read: {exc}. Give the path of a YAML file."
        ) from exc
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as exc:
        raise ConfigError(f"Settings file `{path}` is not YAML: {exc}") from exc
    return validate(cls, data, str(path))
