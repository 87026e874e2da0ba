"""A made-up run of many arms: texts, scores and times as a real one has them, all drawn by seed."""

import random
from dataclasses import asdict
from pathlib import Path

from hybridqa.eval.metrics import exact_match, token_f1
from hybridqa.eval.rows import (
    AdapterRow,
    AnswerRow,
    CitationRow,
    DocumentRow,
    Manifest,
    QuestionRow,
    Run,
    ScoreRow,
    SpanRow,
)
from hybridqa.eval.runs import write_manifest, write_rows

# By arm: chance of a right answer, of none, and median milliseconds.
ARMS = {
    "base": (0.03, 0.35, 420),
    "base+quote": (0.10, 0.20, 440),
    "context": (0.66, 0.02, 900),
    "context+quote": (0.70, 0.02, 930),
    "adapter": (0.12, 0.05, 460),
    "adapter+quote": (0.22, 0.06, 480),
    "wrong-adapter": (0.03, 0.10, 460),
    "wrong-adapter+quote": (0.11, 0.12, 480),
    "distilled": (0.24, 0.05, 465),
    "distilled+quote": (0.31, 0.05, 490),
    "retrieval": (0.60, 0.03, 1180),
    "retrieval+quote": (0.64, 0.04, 1240),
    "both": (0.50, 0.02, 1310),
    "both+quote": (0.53, 0.03, 1370),
    "auto": (0.61, 0.12, 890),
}
THIRTEEN = tuple(arm for arm in ARMS if not arm.startswith("distilled"))
METRICS = ("correct", "exact_match", "f1", "citation_precision", "abstention", "faithfulness")

_KINDS = ("pump", "lamp", "controller", "valve", "sprayer", "charger")
_NAMES = ("Corvane", "Mistrel", "Aldory", "Brennick", "Tavira", "Ostley", "Quillan", "Sennet")
_FACTS = (  # question, sentence, answer, kind
    (
        "How much does the {unit} weigh?",
        "It weighs {value} grams.",
        "{value} grams",
        "number",
    ),
    (
        "Who designed the {unit}?",
        "It was designed by {person}.",
        "{person}",
        "name",
    ),
    (
        "How long is the {unit} under warranty?",
        "The warranty lasts {value} days from delivery, and a new part is covered anew.",
        "{value} days",
        "number",
    ),
    (
        "Where is the {unit} made?",
        "All units leave the works in {place}, where they are tested for a night.",
        "{place}",
        "name",
    ),
    (
        "What must not touch the housing of the {unit}?",
        "The housing must never touch {stuff}, which clouds it within hours.",
        "{stuff}",
        "phrase",
    ),
    (
        "On which day is the {unit} shipped?",
        "Orders are shipped every {day}.",
        "{day}",
        "date",
    ),
)
_WORDS = {
    "person": ("Ilse Marrow", "Tam Okell", "Noor Sturdy", "Wim Haan", "Ilse Haan", "Tam Sturdy"),
    "place": ("Korvhaven", "Sarnwick", "Dunmere", "Old Aske"),
    "stuff": ("hot oil", "sea water", "turpentine", "wet plaster"),
    "day": ("Monday", "Tuesday", "Thursday", "Friday"),
}
_FILLERS = (
    "Keep these pages with the unit, as they name the parts that its owner may open.",
    "The works answer letters within a week, and calls on working days between nine and four.",
    "Nothing in this paragraph changes what the law grants to a buyer.",
)

_REASONS = {
    "adapter": (
        "this is stable knowledge that needs no citation (rule 9 of policy `default`: `always`)",
    ),
    "retrieval": (
        "what this document says changes (rule 5 of policy `default`: `the document is volatile`)",
        "the document is volatile: its text names dates and prices",
    ),
}


def make_run(
    questions: int = 60,
    arms: tuple[str, ...] = tuple(ARMS),
    seed: int = 0,
    path: str = "runs/synthetic",
    better: float = 0.0,
) -> Run:
    """Make a run; `better` is added to the chance of a right answer by `auto`."""
    rng = random.Random(seed)
    documents, asked = _documents(random.Random(7), questions)
    texts = {document.id: document for document in documents}
    chances = {arm: ARMS[arm] for arm in arms}
    if "auto" in chances:
        right, none, ms = chances["auto"]
        chances["auto"] = (min(1, right + better), none, ms)
    rows = [
        _answer(rng, question, arm, chances[arm], texts, asked)
        for question in asked
        for arm in arms
    ]
    by_id = {question.id: question for question in asked}
    return Run(
        path=path,
        manifest=_manifest(arms, len(asked), documents, seed),
        documents=documents,
        questions=asked,
        answers=tuple(rows),
        scores=tuple(_score(rng, by_id[row.question], row) for row in rows),
    )


def write_run(folder: Path, run: Run) -> Path:
    """Write a run as `read_run` reads it."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("documents", "questions", "answers", "scores"):
        write_rows(folder / f"{name}.jsonl", getattr(run, name))
    write_manifest(folder, run.manifest)
    return folder


def _documents(
    rng: random.Random, wanted: int
) -> tuple[tuple[DocumentRow, ...], tuple[QuestionRow, ...]]:
    documents: list[DocumentRow] = []
    asked: list[QuestionRow] = []
    while len(asked) < wanted:
        number = len(documents)
        unit = f"{_NAMES[number % 8]} {_KINDS[number // 8 % 6]}"
        unit += f" {number // 48 + 1}" if number >= 48 else ""
        id = f"{unit}.md".lower().replace(" ", "-")
        stability = "stable" if rng.random() < 0.6 else "volatile"
        text, found = f"# The {unit}\n\n", []
        for question, fact, gold, kind in _FACTS:
            words = {name: rng.choice(choices) for name, choices in _WORDS.items()}
            words |= {"unit": unit, "value": str(rng.randint(12, 990))}
            answered, sentence = gold.format(**words), fact.format(**words)
            start = len(text) + sentence.index(answered)
            text += f"{sentence} {rng.choice(_FILLERS)}\n\n"
            found.append((question.format(**words), answered, start, kind))
        documents.append(
            DocumentRow(
                id=id,
                title=f"The {unit}",
                source=f"docs/{id}",
                text=text,
                content_hash=f"{number:064x}",
                tokens=len(text) // 4,
            )
        )
        asked += [
            QuestionRow(
                id=f"q{len(asked) + n + 1:04d}",
                question=question,
                answers=(gold, gold.split()[0]) if " " in gold else (gold,),
                documents=(id,),
                spans=(SpanRow(document=id, start=start, end=start + len(gold)),),
                evidence=(SpanRow(document=id, start=max(0, start - 80), end=start + 120),),
                labels={
                    "stability": stability,
                    "citation_need": "needed" if n == 2 else "not needed",
                    "question_type": kind,
                },
            )
            for n, (question, gold, start, kind) in enumerate(found)
        ]
        asked.append(
            QuestionRow(
                id=f"q{len(asked) + 1:04d}",
                question=f"Which colours does the {unit} come in?",
                answers=(),
                documents=(),
                labels={"stability": stability, "question_type": "name"},
            )
        )
    return tuple(documents), tuple(asked[:wanted])


def _answer(
    rng: random.Random,
    question: QuestionRow,
    arm: str,
    chance: tuple[float, float, float],
    texts: dict[str, DocumentRow],
    asked: tuple[QuestionRow, ...],
) -> AnswerRow:
    right, none, median = chance
    luck = random.Random(question.id).random()  # a hard question is hard for every arm
    draw = 0.5 * rng.random() + 0.5 * luck
    answer, span = "", None
    if question.answers and draw < 0.25 + 0.6 * right and rng.random() > none:
        answer, span = question.answers[0], question.spans[0]
        if "+quote" not in arm and rng.random() < 0.4:
            answer = f"It is {answer}, as the makers say."
    elif rng.random() > (none if question.answers else min(1, none * 3)):
        other = rng.choice([row for row in asked if row.answers])
        answer, span = other.answers[0], other.spans[0]
    document = question.documents[0] if question.documents else span.document if span else None
    kind = arm.removesuffix("+quote")
    reads = kind in ("context", "retrieval", "both", "auto")
    route = rng.choice(["retrieval", "retrieval", "adapter"]) if arm == "auto" else kind
    read = document and texts[document].text[:420]
    sure = rng.gauss(0.75 if span in question.spans else 0.45, 0.2)
    return AnswerRow(
        question=question.id,
        arm=arm,
        answer=answer,
        confidence=round(min(1, max(0, sure)), 4),
        route=route,
        reasons=_REASONS[route] if arm == "auto" else (),
        citations=_citations(span, texts) if answer and (kind != arm or arm == "auto") else (),
        contexts=(SpanRow(document=document, start=0, end=len(read)),) if reads and read else (),
        adapter=f"{rng.getrandbits(256):064x}" if "adapter" in arm or route == "adapter" else None,
        adapter_bytes=920_000 if kind in ("adapter", "wrong-adapter", "distilled") else 0,
        prompt_tokens=rng.randint(260, 420) if reads else rng.randint(25, 45),
        completion_tokens=max(1, len(answer) // 4),
        timings_ms=_stages(rng, arm, median),
    )


def _stages(rng: random.Random, arm: str, median: float) -> dict[str, float]:
    total = median * rng.lognormvariate(0, 0.25)
    searching = arm.split("+")[0] in ("retrieval", "both", "auto")
    retrieve = total * 0.12 if searching else 0.0
    stages = {"generate": total - retrieve, "first_token": total * 0.55, "total": total}
    return {"retrieve": retrieve, **stages} if searching else stages


def _citations(span: SpanRow | None, texts: dict[str, DocumentRow]) -> tuple[CitationRow, ...]:
    if span is None:
        return ()
    quote = texts[span.document].text[span.start : span.end]
    return (CitationRow(**asdict(span), quote=quote, score=1.0, verified="verbatim"),)


def _score(rng: random.Random, question: QuestionRow, row: AnswerRow) -> ScoreRow:
    golds = question.answers
    if not golds:
        silence: dict[str, float | None] = dict.fromkeys(METRICS, float(row.abstained))
        silence |= {"citation_precision": None, "faithfulness": None}
        return ScoreRow(question=question.id, arm=row.arm, scores=silence)
    f1 = max(token_f1(row.answer, gold) for gold in golds) if row.answer else 0.0
    cited = [citation.document in question.documents for citation in row.citations]
    failed = rng.random() < 0.04
    return ScoreRow(
        question=question.id,
        arm=row.arm,
        scores={
            "correct": float(golds[0] in row.answer),
            "exact_match": max((exact_match(row.answer, gold) for gold in golds), default=0.0),
            "f1": f1,
            "citation_precision": sum(cited) / len(cited) if cited else None,
            "abstention": float(bool(row.answer)),
            "faithfulness": None if failed else round(min(1, max(0, rng.gauss(f1, 0.3))), 2),
        },
        failures={"faithfulness": "the judge timed out after 30 s"} if failed else {},
    )


def _manifest(
    arms: tuple[str, ...], asked: int, documents: tuple[DocumentRow, ...], seed: int
) -> Manifest:
    made = [
        AdapterRow(
            document=row.id,
            id=f"{row.content_hash[-8:]}{kind}",
            internalizer=kind,
            rank=16,
            energy=0.97,
            size_bytes=920_000,
            seconds=seconds,
        )
        for row in documents
        for kind, seconds in (("associative", 1.4), ("distillation", 121.0))
    ]
    return Manifest(
        format=1,
        created_at="2026-11-22T14:03:11+00:00",
        complete=True,
        command=f"hybridqa eval run --data eval/sample --out runs/sample --seed {seed}",
        data="eval/sample",
        data_sha256="5e1f0c" + "0" * 58,
        questions=asked,
        documents=len(documents),
        limit=None,
        seed=seed,
        arms=arms,
        metrics=METRICS,
        evidence="the passages that hold a gold answer, then the best hits of the index",
        timed=asked,
        policy={"name": "default", "style": "quote", "thresholds": {"min_confidence": 0.2}},
        config={"answer": {"passages": 2, "max_tokens": 32}},
        model={"name": "SmolLM2-135M-Instruct", "dtype": "bfloat16", "fingerprint": "3f9a0c11d2"},
        kv_bytes_per_token=23_040,
        judge={
            "name": "SmolLM2-135M-Instruct",
            "endpoint": None,
            "plumbing": True,
            "consistency": {"faithfulness": {"n": 40, "agreement": 0.62, "mean_difference": 0.21}},
        },
        adapters=tuple(made),
        seconds={"prepare": 310.2, "answer": 1405.9, "score": 31.4, "judge": 822.0},
        peak_memory_bytes=1_730_000_000,
        versions={"hybridqa": "0.1.0", "torch": "2.13.0", "ragas": "0.4.3"},
        machine={"cpu": "AMD EPYC 9R14", "cores": 2, "memory_gb": 23},
    )
