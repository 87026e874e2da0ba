import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

import hybridqa
from hybridqa.config import Config, IndexConfig, InternalizeConfig, ModelConfig, load_yaml
from hybridqa.errors import (
    ConfigError,
    HomeInUseError,
    ModelError,
    QuestionError,
    SourceError,
    StoreError,
    UnknownAdapterError,
    UnknownDocumentError,
)
from hybridqa.routing.policy import Policy
from hybridqa.testing import FakeEmbedder, tiny_model
from hybridqa.wiring import HybridQA, load_policy

CONFIGS = Path(hybridqa.__file__).parent / "configs"
SETTINGS = sorted(CONFIGS.glob("*.yaml"))
POLICIES = sorted((CONFIGS / "policy").glob("*.yaml"))


@pytest.mark.parametrize("path", SETTINGS, ids=lambda path: path.stem)
def test_every_settings_file_loads_and_wires(path: Path, tmp_path: Path) -> None:
    with HybridQA(tmp_path / "home", load_yaml(Config, path)) as qa:
        assert qa.catalog.summaries() == []
        assert qa.policy.rules


def test_the_defaults_are_what_the_default_file_says() -> None:
    assert load_yaml(Config, CONFIGS / "default.yaml") == Config()


@pytest.mark.parametrize("path", POLICIES, ids=lambda path: path.stem)
def test_every_policy_file_loads_by_name_and_by_path(path: Path, tmp_path: Path) -> None:
    policy = load_policy(path.stem)

    assert isinstance(policy, Policy)
    assert policy.name == path.stem
    assert load_policy(str(path)) == policy
    HybridQA(tmp_path / "home", Config(policy=path.stem)).close()


def test_there_are_settings_and_policies() -> None:
    assert len(SETTINGS) >= 1
    assert {path.stem for path in POLICIES} == {"default", "strict-citation", "prefer-adapter"}


@pytest.mark.parametrize("name", ["nope", "../default", "", "/etc/passwd"])
def test_an_unknown_policy_is_an_error_and_makes_no_home(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"There is no policy.*default, prefer-adapter"):
        HybridQA(tmp_path / "home", Config(policy=name))

    assert not (tmp_path / "home").exists()


def test_importing_hybridqa_imports_no_torch() -> None:
    code = (
        "import sys, hybridqa; from hybridqa import Config, Answer; hybridqa.HybridQA; "
        "heavy = {'torch', 'transformers', 'qdrant_edge', 'sentence_transformers'}; "
        "sys.exit(', '.join(heavy & sys.modules.keys()) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_names_for_newcomers_are_there() -> None:
    for name in hybridqa.__all__:
        assert getattr(hybridqa, name).__name__ == name
    with pytest.raises(AttributeError, match="`Hybrid`"):
        hybridqa.Hybrid  # noqa: B018


def test_a_home_is_open_once_at_a_time(tmp_path: Path) -> None:
    with HybridQA(tmp_path), pytest.raises(HomeInUseError, match=r"in use.*`--home DIR`"):
        HybridQA(tmp_path)
    HybridQA(tmp_path).close()


def test_a_home_that_fails_to_open_is_free_again(tmp_path: Path) -> None:
    HybridQA(tmp_path).close()
    (tmp_path / "catalog.sqlite").write_bytes(b"junk" * 1000)

    for _ in range(2):  # the second would be refused, if the first still held the lock
        with pytest.raises(StoreError, match=r"catalog\.sqlite"):
            HybridQA(tmp_path)


def test_bad_input_is_told_before_any_model_is_loaded(tmp_path: Path) -> None:
    config = Config(model=ModelConfig(name="./no-such-model"))
    with HybridQA(tmp_path / "home", config) as qa:
        with pytest.raises(QuestionError, match="is empty"):
            qa.ask(" ")
        with pytest.raises(QuestionError, match="has 5000 characters, limit 4000"):
            qa.explain("q" * 5000)
        with pytest.raises(UnknownDocumentError, match=r"\.\./etc/passwd"):
            qa.ask("What?", document_ids=["../etc/passwd"])
        with pytest.raises(UnknownAdapterError, match=r"\.\./\.\."):
            qa.export_adapter("../..", tmp_path / "out")
        with pytest.raises(SourceError, match="cannot be found"):
            qa.ingest_files([tmp_path / "nowhere"])
        with pytest.raises(SourceError, match="path is empty"):
            qa.ingest_files([""])
        with pytest.raises(ModelError, match=r"`\./no-such-model` does not exist"):
            _ = qa.base
        with pytest.raises(ConfigError, match="no internalizer `magic`"):
            qa.internalizer("magic")


def test_parts_are_built_once_whichever_threads_ask(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = []

    def from_checkpoint(name: str, lock: object) -> FakeEmbedder:
        loaded.append(name)
        return FakeEmbedder()

    monkeypatch.setattr(
        "hybridqa.models.embedder.SentenceTransformerEmbedder.from_checkpoint", from_checkpoint
    )
    with HybridQA(tmp_path) as qa:
        found: list[object] = []
        start = threading.Barrier(4)

        def ask() -> None:
            start.wait()
            found.append(qa.index)

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert len(found) == 4
        assert len(set(map(id, found))) == 1
        assert loaded == ["embedded"]


# Models in folders


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model as users keep one: a folder with weights and tokenizer."""
    folder = tmp_path_factory.mktemp("tiny")
    base = tiny_model()
    base.model.save_pretrained(folder)
    base.tokenizer.save_pretrained(folder)
    return folder


def with_model(folder: Path, reader: str | None = None, internalizer: str = "none") -> Config:
    return Config(
        model=ModelConfig(name=str(folder), dtype="float32", device="cpu", reader=reader),
        internalize=InternalizeConfig(internalizer=internalizer, locator=None),  # type: ignore[arg-type]
    )


def test_a_model_in_a_folder_loads(folder: Path, tmp_path: Path) -> None:
    with HybridQA(tmp_path, with_model(folder)) as qa:
        assert qa.base.name == str(folder)
        assert qa.reader is None
        assert qa.generator.model_fingerprint == qa.base.fingerprint
        assert qa.internalizer() is None


def test_a_reader_of_another_model_is_refused(folder: Path, tmp_path: Path) -> None:
    with (
        HybridQA(tmp_path, with_model(folder, reader="embedded")) as qa,
        pytest.raises(ConfigError, match=r"reader `embedded` does not fit.*`null`"),
    ):
        _ = qa.reader


def test_a_hypernetwork_of_another_model_is_refused(folder: Path, tmp_path: Path) -> None:
    with (
        HybridQA(tmp_path, with_model(folder, internalizer="associative")) as qa,
        pytest.raises(ModelError, match=r"trained with the model.*`distillation`"),
    ):
        qa.internalizer()


@pytest.mark.parametrize(
    ("device", "message"),
    [("toaster", "device `toaster`.*`model: device:`"), ("cuda:99", "device `cuda:99`.*`cpu`")],
)
def test_a_device_that_is_not_there_is_refused(
    folder: Path, tmp_path: Path, device: str, message: str
) -> None:
    config = with_model(folder)
    config = replace(config, model=replace(config.model, device=device))
    with HybridQA(tmp_path, config) as qa, pytest.raises(ModelError, match=message):
        _ = qa.base


def test_a_server_that_does_not_answer_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "hybridqa.models.embedder.SentenceTransformerEmbedder.from_checkpoint",
        lambda name, lock: FakeEmbedder(),
    )
    config = Config(index=IndexConfig(url="http://localhost:1"))
    with (
        HybridQA(tmp_path, config) as qa,
        pytest.raises(StoreError, match=r"http://localhost:1.*`index\.url`"),
    ):
        _ = qa.index
