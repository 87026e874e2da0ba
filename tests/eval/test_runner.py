"""A run's folder: complete, resumable after a kill, and never of two plans."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hybridqa.errors import InputError, StoreError
from hybridqa.eval.arms import ArmName
from hybridqa.eval.cases import Dataset, choose
from hybridqa.eval.plan import Plan
from hybridqa.eval.rows import Run
from hybridqa.eval.runner import run
from hybridqa.eval.runs import read_run


def plan(dataset: Dataset, *arms: ArmName, **settings: Any) -> Plan:
    metrics = settings.pop("metrics", ("f1", "exact_match", "correct", "citation_recall"))
    return Plan(dataset=dataset, arms=arms or tuple(ArmName), metrics=metrics, **settings)


def done(homes: Any, the_plan: Plan, out: Path, **options: Any) -> Run:
    run(homes.config, the_plan, out, open_home=homes, **options)
    return read_run(out)


def means(finished: Run, metric: str) -> dict[str, float]:
    return {
        arm: sum(value or 0 for value in values) / len(values)
        for arm, values in finished.table(metric).items()
    }


def test_every_arm_knows_what_it_can(homes: Any, rivers: Dataset, tmp_path: Path) -> None:
    answerable = replace(rivers, cases=rivers.cases[:4])
    finished = done(homes, plan(answerable), tmp_path / "run")

    assert means(finished, "f1") == {
        "base": 0,
        "base+quote": 0,
        "context": 1,
        "context+quote": 1,
        "adapter": 1,
        "adapter+quote": 1,
        "adapter+either": 1,
        "wrong-adapter": 0,
        "wrong-adapter+quote": 0,
        "distilled": 1,
        "distilled+quote": 1,
        "refined": 1,
        "refined+quote": 1,
        "retrieval": 1,
        "retrieval+quote": 1,
        "retrieval+either": 1,
        "both": 1,
        "both+quote": 1,
        "both+either": 1,
        "auto": 1,
    }
    assert means(finished, "citation_recall")["retrieval+quote"] == 1
    abstained = {row.arm for row in finished.answers if row.abstained}
    assert abstained == {"base+quote", "wrong-adapter+quote"}  # the right text says no such town
    for trainer in (homes.distillation, homes.refinement):
        assert sorted(trainer.calls) == sorted(river.id for river in rivers.documents)


def test_the_folder_says_all_about_the_run(homes: Any, rivers: Dataset, tmp_path: Path) -> None:
    finished = done(homes, plan(rivers, command="hybridqa eval run"), tmp_path / "run")
    manifest, out = finished.manifest, tmp_path / "run"

    assert manifest.complete
    assert manifest.data_sha256 == choose(rivers).sha256
    assert manifest.policy["name"] == "default"
    assert manifest.kv_bytes_per_token == 4 * 2 * 2 * 8 * 4  # layers, k and v, heads, width, bytes
    assert {row.internalizer for row in manifest.adapters} == {
        "associative",
        "distillation",
        "refinement",
    }
    assert manifest.peak_memory_bytes > 1 << 20
    assert set(manifest.seconds) == {"prepare", "answer", "score"}
    assert not (out / "work").exists()
    assert len((out / "log.jsonl").read_text().splitlines()) == len(rivers.cases)
    question = next(q for q in finished.questions if q.id == "q-Lune")
    assert question.evidence[0].document == "Lune"
    assert question.labels == {"question_type": "what"}
    routed = next(row for row in finished.answers if row.arm == "auto")
    assert routed.reasons
    assert routed.prompt_tokens > 0
    assert all(row.timings_ms["total"] > 0 for row in finished.answers if row.batch == 1)
    assert {row.batch for row in finished.answers} == {1}  # fewer questions than are timed


def test_a_killed_run_goes_on_without_asking_twice(
    homes: Any, rivers: Dataset, tmp_path: Path
) -> None:
    whole = done(homes, plan(rivers, timed=2, batch_size=2), tmp_path / "whole")
    asked = len(homes.generator.prompts)
    homes.generator.prompts.clear()
    homes.distillation.calls.clear()
    answer, allowed = homes.generator.generate, asked // 2

    def die_halfway(prompts: Any) -> Any:
        if len(homes.generator.prompts) >= allowed:
            raise KeyboardInterrupt
        return answer(prompts)

    homes.generator.generate = die_halfway
    out = tmp_path / "killed"
    with pytest.raises(KeyboardInterrupt):
        run(homes.config, plan(rivers, timed=2, batch_size=2), out, open_home=homes)
    with (out / "answers.jsonl").open("a") as file:
        file.write('{"question": "torn in the mid')
    with pytest.raises(InputError, match=r"not complete.*--resume"):
        read_run(out)
    homes.generator.generate = answer
    resumed = done(homes, plan(rivers, timed=2, batch_size=2), out, resume=True)

    assert len(homes.generator.prompts) == asked
    assert len(homes.distillation.calls) == len(set(homes.distillation.calls))
    assert scores(resumed) == scores(whole)


def test_a_kill_after_the_last_answer_loses_nothing(
    homes: Any, rivers: Dataset, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    the_plan = plan(rivers, ArmName.ADAPTER, ArmName.AUTO)

    def blocked(path: Path, config: Any) -> Any:
        qa = homes(path, config)
        (out / "log.jsonl").mkdir()  # stands for a disk that is full when the log is copied
        return qa

    with pytest.raises(StoreError, match="copy the question log"):
        run(homes.config, the_plan, out, open_home=blocked)
    (out / "log.jsonl").rmdir()
    homes.generator.prompts.clear()
    finished = done(homes, the_plan, out, resume=True)

    assert not homes.generator.prompts
    assert len((out / "log.jsonl").read_text().splitlines()) == len(rivers.cases)
    assert {row.document for row in finished.manifest.adapters} == {
        document.id for document in rivers.documents
    }


def test_the_log_has_every_question_once(homes: Any, rivers: Dataset, tmp_path: Path) -> None:
    def dying(path: Path, config: Any) -> Any:
        qa = homes(path, config)
        ask = qa.ask

        def asked_and_killed(question: str) -> None:
            ask(question)
            raise KeyboardInterrupt

        qa.ask = asked_and_killed
        return qa

    out, the_plan = tmp_path / "run", plan(rivers, ArmName.AUTO)
    with pytest.raises(KeyboardInterrupt):
        run(homes.config, the_plan, out, open_home=dying)
    done(homes, the_plan, out, resume=True)

    logged = [json.loads(line)["question"] for line in (out / "log.jsonl").read_text().splitlines()]
    assert sorted(logged) == sorted(case.question for case in rivers.cases)


def scores(finished: Run) -> dict[tuple[str, str], Any]:
    return {(row.arm, row.question): dict(row.scores) for row in finished.scores}


def test_a_complete_run_is_scored_anew_without_asking(
    homes: Any, rivers: Dataset, tmp_path: Path
) -> None:
    first = plan(rivers, ArmName.RETRIEVAL)
    done(homes, first, tmp_path / "run")
    homes.generator.prompts.clear()
    again = done(homes, replace(first, metrics=("rouge_l",)), tmp_path / "run", resume=True)

    assert not homes.generator.prompts
    assert again.manifest.metrics == ("rouge_l",)
    assert set(again.scores[0].scores) == {"rouge_l"}


def test_what_is_there_is_never_overwritten(homes: Any, rivers: Dataset, tmp_path: Path) -> None:
    out = tmp_path / "run"
    done(homes, plan(rivers, ArmName.BASE), out)
    with pytest.raises(InputError, match=r"holds a run already.*--resume"):
        done(homes, plan(rivers, ArmName.BASE), out)
    with pytest.raises(InputError, match="begun with another `seed`: then 0, now 1"):
        done(homes, plan(rivers, ArmName.BASE, seed=1), out, resume=True)
    with pytest.raises(InputError, match="begun with another `arms`"):
        done(homes, plan(rivers, ArmName.RETRIEVAL), out, resume=True)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("precious")
    with pytest.raises(InputError, match="not empty, and not a run"):
        done(homes, plan(rivers, ArmName.BASE), tmp_path / "mine")
    with pytest.raises(InputError, match="is a file"):
        done(homes, plan(rivers, ArmName.BASE), tmp_path / "mine" / "thesis.txt")


def test_damaged_and_newer_folders_are_told(homes: Any, rivers: Dataset, tmp_path: Path) -> None:
    out = tmp_path / "run"
    manifest = done(homes, plan(rivers, ArmName.BASE), out).manifest
    path = out / "manifest.json"
    kept = path.read_text()

    path.write_text(json.dumps({**json.loads(kept), "format": manifest.format + 1}))
    with pytest.raises(InputError, match="has format 2, this hybridqa reads up to 1"):
        read_run(out)
    path.write_text(kept[:50])
    with pytest.raises(InputError, match="not JSON"):
        read_run(out)
    path.write_text(kept)
    rows = (out / "answers.jsonl").read_text().splitlines(keepends=True)
    (out / "answers.jsonl").write_text("".join(rows[:-1]))
    with pytest.raises(InputError, match="is damaged: 5 questions and 2 arms, but 9 answers"):
        read_run(out)
    with pytest.raises(InputError, match="There is no run in"):
        read_run(tmp_path / "nowhere")
