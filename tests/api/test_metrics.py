import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from hybridqa.stores.keys import Scope
from tests.api.conftest import LAMP, Serving, fake_config

WEIGHT = {"question": "What does the Corvane lamp weigh?"}


def figure(serving: Serving, name: str, **labels: str) -> float:
    """Return a figure; 0 if there is none."""
    text = serving.client.get("/metrics").text
    samples = [s for family in text_string_to_metric_families(text) for s in family.samples]
    return sum(s.value for s in samples if s.name == name and labels.items() <= s.labels.items())


def test_requests_are_counted_by_route_and_status(serving: Serving) -> None:
    serving.know(lamp=LAMP)
    for name in ("lamp", "lamp", "nothing"):
        serving.client.get(f"/v1/documents/{name}")
    serving.client.get("/v1/a/b/c")
    serving.client.request("BREW", "/v1/me")

    shown = {"method": "GET", "route": "/v1/documents/{document_id:path}"}
    assert figure(serving, "hybridqa_requests_total", status="200", **shown) == 2
    assert figure(serving, "hybridqa_requests_total", status="404", **shown) == 1
    assert figure(serving, "hybridqa_requests_total", route="other", status="404") == 1
    assert figure(serving, "hybridqa_requests_total", method="other", status="405") == 1
    assert figure(serving, "hybridqa_request_seconds_count", route=shown["route"]) == 3


def test_the_dashboard_is_not_taken_for_the_page(serving: Serving) -> None:
    serving.client.get("/dashboard/")
    serving.client.get("/")

    assert figure(serving, "hybridqa_requests_total", route="/dashboard/") == 1
    assert figure(serving, "hybridqa_requests_total", route="/") == 1


@pytest.mark.parametrize("is_streamed", [False, True])
def test_questions_are_counted_by_arm_and_outcome(serving: Serving, is_streamed: bool) -> None:
    serving.know(lamp=LAMP)
    asked = {**WEIGHT, "stream": is_streamed}
    for arm in ("retrieval", "retrieval", "adapter"):
        serving.client.post("/v1/answers", json={**asked, "arm": arm})
    serving.client.post("/v1/chat/completions", json=chat(WEIGHT["question"], is_streamed))
    serving.client.post("/v1/answers", json={"question": "Zyx?", "stream": is_streamed})

    def answered(arm: str) -> float:
        return figure(serving, "hybridqa_questions_total", arm=arm, outcome="answered")

    assert answered("retrieval") == 2
    assert answered("adapter") == 2
    assert figure(serving, "hybridqa_question_seconds_count", arm="retrieval") >= 2
    assert figure(serving, "hybridqa_questions_total", outcome="abstained") == 1
    assert figure(serving, "hybridqa_adapters_worn_total") == 2
    assert figure(serving, "hybridqa_tokens_total", kind="prompt") > 0


def test_refused_and_failed_questions_are_told_apart(serving: Serving) -> None:
    serving.know(lamp=LAMP)
    serving.client.post("/v1/answers", json={"question": " "})

    def breaking(question: str, texts: Sequence[str]) -> str:
        raise KeyError(question)

    serving.answer = breaking
    assert serving.client.post("/v1/answers", json=WEIGHT).status_code == 500

    assert figure(serving, "hybridqa_questions_total", outcome="refused") == 1
    assert figure(serving, "hybridqa_questions_total", outcome="failed") == 1
    assert figure(serving, "hybridqa_questions_total", outcome="answered") == 0


def test_questions_in_flight_and_waiting_jobs_are_shown(serving: Serving) -> None:
    serving.know(lamp=LAMP)
    has_begun, may_end = threading.Event(), threading.Event()

    def slow(question: str, texts: Sequence[str]) -> str:
        has_begun.set()
        may_end.wait(10)
        return ""

    serving.answer = slow
    asking = threading.Thread(
        target=serving.client.post, args=["/v1/answers"], kwargs={"json": WEIGHT}
    )
    asking.start()
    assert has_begun.wait(10)
    during = figure(serving, "hybridqa_questions_in_flight")
    may_end.set()
    asking.join()

    assert during == 1
    assert figure(serving, "hybridqa_questions_in_flight") == 0
    assert figure(serving, "hybridqa_jobs_unfinished") == 0


def test_figures_need_a_key_and_name_nobody(guarded: Serving) -> None:
    client = guarded.client_of("secret-tenant", Scope.READ)
    guarded.know("secret-tenant", secretdocument=LAMP)
    client.get("/v1/documents/secretdocument")
    client.post("/v1/answers", json={**WEIGHT, "documents": ["secretdocument"]})

    assert guarded.client.get("/metrics").status_code == 401
    shown = client.get("/metrics").text
    assert "hybridqa_questions_total" in shown
    assert "secret" not in shown


def test_each_app_has_figures_of_its_own(serving: Serving, tmp_path: Path) -> None:
    other = Serving(tmp_path / "other", auth=False, config=fake_config())
    serving.client.get("/v1/me")

    assert figure(serving, "hybridqa_requests_total", route="/v1/me") == 1
    assert figure(other, "hybridqa_requests_total", route="/v1/me") == 0
    other.close()


def chat(question: str, is_streamed: bool) -> dict[str, object]:
    messages = [{"role": "user", "content": question}]
    return {"model": "hybridqa-adapter", "messages": messages, "stream": is_streamed}
