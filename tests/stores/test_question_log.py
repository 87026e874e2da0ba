import json
import logging
import os
import threading
from collections.abc import Collection
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from hybridqa.errors import InputError, StoreError
from hybridqa.stores import question_log
from hybridqa.stores.question_log import LoggedCandidate, LoggedQuestion, QuestionLog, read_log
from hybridqa.types import (
    Arm,
    Attempt,
    Citation,
    DocumentSignals,
    QuerySignals,
    Signal,
    Style,
)

NOW = datetime(2026, 11, 22, 12, 30, 1, 250, tzinfo=UTC)
SECRET = "the gate code is walnut"


def candidate(document_id: str) -> LoggedCandidate:
    return LoggedCandidate(
        document_id=document_id,
        content_hash="c" * 64,
        signals=DocumentSignals(
            volatility=Signal(value=0.25, reasons=[f"it says {SECRET}"]),
            citation_need=Signal(value=0.5, reasons=[]),
        ),
        similarity=0.7,
        modified_at=None,
        modified_by="unknown",
        ingested_at=NOW,
        first_ingested_at=NOW,
        adapter_id="a" * 64,
    )


def entry(question: str = "What is the gate code?", *documents: str, **more: Any) -> LoggedQuestion:
    documents = documents or ("manual.md",)
    cited = Citation(
        document_id=documents[0], start=4, end=27, quote=SECRET, score=1.0, verified="verbatim"
    )
    attempts = (
        Attempt(
            arm=Arm.ADAPTER,
            text=SECRET,
            abstained=False,
            cited=True,
            confidence=0.9,
            support=0.8,
            accepted=True,
            reasons=[],
            milliseconds=12.5,
        ),
    )
    made = LoggedQuestion(
        asked_at=NOW,
        question=question,
        asked_arm=None,
        asked_documents=(),
        asked_style=None,
        style=Style.QUOTE,
        policy="default",
        model="m" * 64,
        query=QuerySignals(
            volatility=Signal(value=0.1, reasons=[]), citation_need=Signal(value=0.2, reasons=[])
        ),
        candidates=tuple(map(candidate, documents)),
        route=Arm.ADAPTER,
        arm=Arm.ADAPTER,
        reasons=(f"it says {SECRET}",),
        attempts=attempts,
        answer=SECRET,
        abstained=False,
        error=None,
        citations=(cited,),
        confidence=0.9,
        timings_ms={"total": 20.0},
        prompt_tokens=30,
        completion_tokens=4,
    )
    return replace(made, **more)


def all_live(ids: Collection[str]) -> Collection[str]:
    return ids


def log_in(folder: Path, **settings: Any) -> QuestionLog:
    return QuestionLog(folder / "questions.jsonl", **{"live": all_live, **settings})


def test_what_is_logged_is_read_back(tmp_path: Path) -> None:
    log = log_in(tmp_path)
    entries = [entry("One?"), entry("Zwei\n„Wörter“\u2028?", "a b/ü.md"), entry(answer="")]
    for each in entries:
        log.append(each)

    assert [asdict(each) for each in read_log(log.path)] == [asdict(each) for each in entries]
    lines = log.path.read_bytes().splitlines()
    assert len(lines) == 3
    assert all(json.loads(line)["format"] == 1 for line in lines)


def test_values_that_are_no_numbers_are_read_back(tmp_path: Path) -> None:
    log = log_in(tmp_path)
    odd = replace(candidate("manual.md"), similarity=float("nan"))
    log.append(entry(candidates=(odd,), confidence=float("nan")))

    [found] = read_log(log.path)

    assert found.confidence != found.confidence
    assert found.candidates[0].similarity != found.candidates[0].similarity


def test_threads_write_whole_lines(tmp_path: Path) -> None:
    log = log_in(tmp_path)

    def write(number: int) -> None:
        for n in range(25):
            log.append(entry(f"{number} {n}?"))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    asked = sorted(each.question for each in read_log(log.path))
    assert asked == sorted(f"{number} {n}?" for number in range(4) for n in range(25))


def test_a_full_log_is_set_aside_and_one_is_kept(tmp_path: Path) -> None:
    log = log_in(tmp_path)
    log.append(entry("0?"))
    size = log.path.stat().st_size
    log = log_in(tmp_path, max_bytes=2 * size)

    for n in range(1, 6):
        log.append(entry(f"{n}?"))

    assert [each.question for each in read_log(log.path)] == ["4?", "5?"]
    assert [each.question for each in read_log(tmp_path / "questions.1.jsonl")] == ["2?", "3?"]
    assert len(os.listdir(tmp_path)) == 2


# Damage


def test_a_torn_last_line_is_left_out_and_cut_off(tmp_path: Path) -> None:
    log = log_in(tmp_path)
    log.append(entry("One?"))
    with log.path.open("ab") as file:
        file.write(b'{"format": 1, "asked_at": "2026-')

    assert [each.question for each in read_log(log.path)] == ["One?"]

    log.append(entry("Two?"))

    assert [each.question for each in read_log(log.path)] == ["One?", "Two?"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"not json", "line 2.*damaged: expected ident"),
        (b"", "line 2.*damaged"),
        (b"[]", "line 2.*damaged"),
        (b'{"format": 1}', "line 2.*damaged: `asked_at`: Field required.*Remove the line"),
        (b'{"format": 2, "new": 1}', "line 2.*has format 2, this hybridqa reads up to 1. Update"),
        (b"\xff\xfe", "line 2.*damaged"),
    ],
)
def test_a_damaged_or_newer_line_is_named(tmp_path: Path, line: bytes, message: str) -> None:
    log = log_in(tmp_path)
    log.append(entry())
    with log.path.open("ab") as file:
        file.write(line + b"\n")

    with pytest.raises(InputError, match=f"(?i){message}"):
        read_log(log.path)


@pytest.mark.parametrize(
    ("key", "value"),
    [("arm", "telepathy"), ("asked_at", "2026-11-22T12:00:00"), ("extra", 1), ("attempts", [{}])],
)
def test_a_line_with_a_wrong_value_is_refused(tmp_path: Path, key: str, value: Any) -> None:
    log = log_in(tmp_path)
    log.append(entry())
    log.path.write_text(json.dumps({**json.loads(log.path.read_text()), key: value}) + "\n")

    with pytest.raises(InputError, match=f"Line 1 .*damaged: `{key}"):
        read_log(log.path)


def test_a_log_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.jsonl` cannot be read: No such file"):
        read_log(tmp_path / "nowhere.jsonl")
    with pytest.raises(InputError, match="cannot be read: Is a directory"):
        read_log(tmp_path)


# Disks that refuse


def test_a_log_that_cannot_be_written_warns_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log = log_in(tmp_path)
    log.path.mkdir()

    with caplog.at_level(logging.WARNING):
        log.append(entry())
        log.append(entry())

    [warning] = caplog.messages
    assert "questions.jsonl` cannot be written: " in warning
    assert "`log_questions: false`" in warning

    log.path.rmdir()
    log.append(entry("Later?"))
    assert [each.question for each in read_log(log.path)] == ["Later?"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_loses_no_answer(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    log = log_in(tmp_path)
    log.path.symlink_to("/dev/full")

    log.append(entry())

    [warning] = caplog.messages
    assert "No space left on device" in warning


@pytest.mark.skipif(os.name == "nt", reason="needs limits of file sizes")
def test_a_line_that_does_not_fit_is_taken_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    import resource

    log = log_in(tmp_path)
    log.append(entry("Fits?"))
    former = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (log.path.stat().st_size + 100, former[1]))
    try:
        log.append(entry("Too long?"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, former)
    assert log.path.read_bytes().endswith(b"\n")
    log.append(entry("Later?"))

    assert [each.question for each in read_log(log.path)] == ["Fits?", "Later?"]
    assert len(caplog.messages) == 1


def test_a_catalog_that_fails_loses_no_answer(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(ids: Collection[str]) -> Collection[str]:
        raise StoreError("The database cannot be used.")

    log = log_in(tmp_path, live=fail)

    log.append(entry())

    assert not log.path.exists()  # it might name what was deleted
    assert len(caplog.messages) == 1


# Forgetting


def test_a_deleted_document_leaves_no_words(tmp_path: Path) -> None:
    log = log_in(tmp_path, max_bytes=1)  # each line is set aside by the next
    log.append(entry("One?", "other.md", "manual.md"))
    log.append(entry("Two?", "manual.md"))

    with log.forgetting("manual.md"):
        pass

    for path in (log.path, log.set_aside_path):
        assert SECRET not in path.read_text()
        [found] = read_log(path)
        assert found.redacted
        assert (found.answer, found.citations, found.reasons) == ("", (), ())
        assert [attempt.text for attempt in found.attempts] == [""]
        assert found.attempts[0].confidence == 0.9
        assert found.candidates[-1].signals.volatility.value == 0.25
    assert len(os.listdir(tmp_path)) == 2


def test_what_names_other_documents_stays_as_it_is(tmp_path: Path) -> None:
    log = log_in(tmp_path)
    for n, document in enumerate(["a.md", 'b "quoted" \\ ü.md', "aa.md"]):
        log.append(entry(f'{n} "a.md" "manual.md"?', document))
    before = log.path.read_bytes()

    with log.forgetting("manual.md"):
        pass
    assert log.path.read_bytes() == before

    with log.forgetting('b "quoted" \\ ü.md'):
        pass
    assert [each.redacted for each in read_log(log.path)] == [False, True, False]
    with log.forgetting("a.md"):
        pass
    assert [each.redacted for each in read_log(log.path)] == [True, True, False]


def test_what_is_asked_while_a_document_is_deleted_leaves_no_words(tmp_path: Path) -> None:
    live = {"manual.md"}
    log = log_in(tmp_path, live=lambda ids: live & set(ids))
    late = threading.Thread(target=log.append, args=(entry("Late?"),))
    log.append(entry("Early?"))

    with log.forgetting("manual.md"):
        late.start()
        late.join(timeout=0.1)
        assert late.is_alive()  # it waits for the document to be gone
        live.clear()
    late.join(timeout=10)

    assert [(each.question, each.redacted) for each in read_log(log.path)] == [
        ("Early?", True),
        ("Late?", True),
    ]
    assert SECRET not in log.path.read_text()


def test_what_cannot_be_forgotten_keeps_the_document(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = log_in(tmp_path)
    log.append(entry())
    before = log.path.read_bytes()

    def full(path: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    deleted = []
    with monkeypatch.context() as context:
        context.setattr(question_log, "replace_durably", full)
        with (
            pytest.raises(StoreError, match=r"question log.*No space left.*Free some disk space"),
            log.forgetting("manual.md"),
        ):
            deleted.append("manual.md")

    assert deleted == []
    assert log.path.read_bytes() == before
    with log.path.open("ab") as file:
        file.write(b'{"format": 1, "document_id": "manual.md"}\n')
    with pytest.raises(InputError, match=r"Line 2 .*Remove the line"), log.forgetting("manual.md"):
        deleted.append("manual.md")
    assert deleted == []
