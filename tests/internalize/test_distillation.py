import dataclasses
import threading
from pathlib import Path

import pytest
import torch

import hybridqa
from hybridqa.errors import AdapterMismatchError, DocumentTooLongError, InternalizeError
from hybridqa.internalize.distillation import DistillationInternalizer
from hybridqa.internalize.lessons import Lesson, answer_logits, loss, teach
from hybridqa.internalize.self_questions import self_questions
from hybridqa.models.base import BaseModel
from hybridqa.models.generator import TorchGenerator
from hybridqa.protocols import Prompt
from hybridqa.stores.peft_folder import adapter_id
from hybridqa.stores.task_adapters import load_task_adapter
from hybridqa.testing import FakeAsker, tiny_model
from hybridqa.types import Adapter, Chunk, Document, Internalized, LoraLayer

TEXT = "The Mistrel pump was built in Korvhaven in 1987. Anna Brandt designed its bronze impeller."


@pytest.fixture(scope="module")
def base() -> BaseModel:
    return tiny_model()


@pytest.fixture(scope="module")
def reader(base: BaseModel) -> Adapter:
    """Small random changes of every linear layer."""
    generator = torch.Generator().manual_seed(7)
    layers = {
        path: LoraLayer(
            down=torch.randn(4, module.in_features, generator=generator) * 0.1,
            up=torch.randn(module.out_features, 4, generator=generator) * 0.1,
        )
        for path, module in base.model.named_modules()
        if isinstance(module, torch.nn.Linear) and ".layers." in path
    }
    return Adapter(adapter_id(layers, base.fingerprint, "task"), layers, base.fingerprint)


def document(text: str = TEXT, name: str = "pump.md") -> Document:
    return Document(id=name, text=text, title="", source=name)


def chunks_of(document: Document) -> list[Chunk]:
    return [
        Chunk(
            document_id=document.id,
            content_hash=document.content_hash,
            start=0,
            end=len(document.text),
            text=document.text,
        )
    ]


def internalizer(
    base: BaseModel, reader: Adapter | None, seed: int = 0, rank: int = 4, steps: int = 40
) -> DistillationInternalizer:
    return DistillationInternalizer(
        generator=FakeAsker(),
        base=base,
        task_adapter=reader,
        rank=rank,
        steps=steps,
        questions=6,
        max_chunks=2,
        learning_rate=1e-2,
        seed=seed,
    )


@pytest.fixture(scope="module")
def made(base: BaseModel, reader: Adapter) -> Internalized:
    return internalizer(base, reader).internalize(document(), chunks_of(document()))


def lessons(base: BaseModel, reader: Adapter) -> list[Lesson]:
    """What the internalizer taught, made anew through public seams."""
    asked = self_questions(FakeAsker(), None, chunks_of(document()), 6)
    ids = TorchGenerator(base).prompt_ids
    return teach(
        base,
        [reader],
        students=[ids(Prompt(question=q.question)) for q in asked],
        teachers=[ids(Prompt(question=q.question, passages=[TEXT])) for q in asked],
        answers=[[*base.tokenizer(q.answer)["input_ids"], 1] for q in asked],
    )


def test_the_student_comes_closer_to_the_teacher(
    base: BaseModel, reader: Adapter, made: Internalized
) -> None:
    taught = lessons(base, reader)
    entropy = [-(x.probabilities * x.probabilities.log()).sum(-1) for x in taught]
    floor = float(torch.cat(entropy).mean())

    before = float(loss(base, [reader], taught)) - floor
    after = float(loss(base, [reader, made.adapter], taught)) - floor

    assert 0 < after < 0.8 * before


def test_the_result_says_how_it_came_to_be(
    base: BaseModel, reader: Adapter, made: Internalized
) -> None:
    assert made.task_adapter is reader
    assert (made.rank, made.energy) == (4, 1.0)
    assert made.shares == ((0, len(TEXT)),)
    assert made.seconds > 0
    assert made.adapter.model_fingerprint == base.fingerprint
    for layer in made.adapter.layers.values():
        assert layer.down.shape[0] == layer.up.shape[1] == 4
        assert layer.down.dtype == layer.up.dtype == torch.bfloat16
        assert not layer.down.requires_grad
        assert layer.up.abs().max() > 0


def test_nothing_of_the_shared_model_changes(base: BaseModel, reader: Adapter) -> None:
    before = {name: tensor.clone() for name, tensor in base.model.state_dict().items()}

    internalizer(base, reader, steps=2).internalize(document(), chunks_of(document()))

    after = base.model.state_dict()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    assert not any(module._forward_hooks for module in base.model.modules())
    assert all(p.grad is None and not p.requires_grad for p in base.model.parameters())
    assert not base.lock.locked()


def test_equal_seeds_make_equal_adapters(
    base: BaseModel, reader: Adapter, made: Internalized
) -> None:
    again = internalizer(base, reader)
    other = internalizer(base, reader, seed=1)

    assert again.internalize(document(), chunks_of(document())).adapter.id == made.adapter.id
    assert other.internalize(document(), chunks_of(document())).adapter.id != made.adapter.id
    assert again.fingerprint == internalizer(base, reader).fingerprint != other.fingerprint


def test_fingerprints_tell_settings_and_task_adapters_apart(
    base: BaseModel, reader: Adapter
) -> None:
    made = [
        internalizer(base, reader),
        internalizer(base, None),
        internalizer(base, reader, rank=8),
        internalizer(base, reader, steps=41),
    ]

    assert len({one.fingerprint for one in made}) == 4


def test_a_model_that_reads_by_itself_needs_no_task_adapter(base: BaseModel) -> None:
    made = internalizer(base, None, steps=2).internalize(document(), chunks_of(document()))

    assert made.task_adapter is None


def test_a_task_adapter_of_another_model_is_refused(base: BaseModel, reader: Adapter) -> None:
    foreign = dataclasses.replace(reader, model_fingerprint="another")

    with pytest.raises(AdapterMismatchError, match="another"):
        internalizer(base, foreign)


def test_too_many_chunks_are_refused(base: BaseModel, reader: Adapter) -> None:
    with pytest.raises(DocumentTooLongError, match=r"pump\.md"):
        internalizer(base, reader).internalize(document(), chunks_of(document()) * 3)


@pytest.mark.parametrize("text", ["", "?!"])
def test_a_document_without_questions_is_refused(
    base: BaseModel, reader: Adapter, text: str
) -> None:
    with pytest.raises(InternalizeError, match=r"pump\.md"):
        internalizer(base, reader).internalize(document(text), chunks_of(document(text)))


def test_others_are_answered_while_it_trains(base: BaseModel, reader: Adapter) -> None:
    training = threading.Thread(
        target=lambda: internalizer(base, reader, steps=60).internalize(
            document(), chunks_of(document())
        )
    )
    alone = TorchGenerator(base).generate([Prompt(question="Who?", max_tokens=4)])[0]
    training.start()

    answered = 0
    while training.is_alive():
        found = TorchGenerator(base).generate([Prompt(question="Who?", max_tokens=4)])[0]
        assert found.token_ids == alone.token_ids
        answered += 1
    training.join()

    assert answered > 3


PUMP = """The Mistrel pump was built in Korvhaven in 1987 and weighs 48 kilograms. Anna Brandt
of Delft designed its bronze impeller. It moves 300 litres a minute and runs on diesel oil.
A service is due every 90 days and costs 120 florins. Its colour is dark green."""
CHOIR = """The choir of Ostwick was founded by the baker Jonas Hale in 1921. It has 64 singers, who
meet on Thursdays in the old tannery. Its conductor is Mirela Stan. A ticket costs 9 crowns, and
the summer concert is held on the lake of Sarn."""
GOLD = [
    ("Where was the Mistrel pump built?", "Korvhaven"),
    ("How much does the pump weigh?", "48 kilograms"),
    ("Who designed the impeller?", "Anna Brandt of Delft"),
    ("What does the pump run on?", "diesel oil"),
    ("How often is a service due?", "every 90 days"),
    ("What colour is the pump?", "dark green"),
]


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_right_adapter_knows_answers_to_questions_it_was_not_trained_on() -> None:
    base = BaseModel.from_checkpoint("embedded")
    checkpoints = Path(str(hybridqa.__file__)).parent / "checkpoints" / "smollm2-135m-instruct"
    reader = load_task_adapter(checkpoints / "reader", base.fingerprint)
    generator = TorchGenerator(base)
    distillation = DistillationInternalizer(
        generator, base, reader, rank=16, steps=40, questions=16, max_chunks=4
    )

    def surprise(*adapters: Adapter) -> float:
        """Return the mean loss on the gold answers, with no text in the prompt."""
        prompts = [generator.prompt_ids(Prompt(question=question)) for question, _ in GOLD]
        answers = [[*base.tokenizer(answer)["input_ids"], 2] for _, answer in GOLD]
        with torch.no_grad():
            logits = torch.cat(answer_logits(base, [reader, *adapters], prompts, answers))
        targets = torch.tensor([token for answer in answers for token in answer])
        return float(torch.nn.functional.cross_entropy(logits, targets))

    pump, choir = document(PUMP), document(CHOIR, "choir.md")
    right = distillation.internalize(pump, chunks_of(pump)).adapter
    wrong = distillation.internalize(choir, chunks_of(choir)).adapter

    assert surprise(right) < surprise(wrong) - 0.3
    assert surprise(right) < surprise() - 0.3
