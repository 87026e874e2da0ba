"""The page in a real Chromium, against the real service on fake models."""

import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI
from starlette.testclient import TestClient

from hybridqa.api import page
from hybridqa.api.app import create_app, create_service
from hybridqa.errors import InputError
from hybridqa.eval.dashboard.measure import chromium
from hybridqa.stores.keys import Scope
from hybridqa.testing import FakeGenerator, best_sentence
from hybridqa.types import Document
from tests.api.conftest import BASE, BRIDGE, LAMP, fake_config, fake_models

DEFAULT_POLICY = Path(__file__).parents[2] / "configs/policy/default.yaml"
PHONE = 390
WHO = "Who designed the Corvane lamp?"
EVIL = "<img src=x onerror=\"document.title='broken'\"><script>document.title='broken'</script>"
IN_SIGHT = """() => {
  const place = (what) => document.querySelector(what).getBoundingClientRect();
  const [pane, mark] = [place("#reader-text"), place("#reader-text mark")];
  return mark.height > 0 && mark.top >= pane.top && mark.bottom <= pane.bottom
    && mark.bottom <= innerHeight;
}"""


class Site:
    """A service that listens on a port of its own. Answers wait while `held`."""

    def __init__(self, root: Path, auth: bool, **serve: Any) -> None:
        self.free = threading.Event()
        self.free.set()
        config = fake_config(**serve)
        models = fake_models(config)
        models.generator = FakeGenerator(answer=self._answer, model_fingerprint=BASE.fingerprint)
        self.service = create_service(root, config, models, auth)
        options = uvicorn.Config(
            create_app(self.service), port=0, log_level="error", timeout_graceful_shutdown=1
        )
        self._server = uvicorn.Server(options)
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        deadline = time.monotonic() + 20
        while not self._server.started:
            assert time.monotonic() < deadline
            assert self._thread.is_alive()
            time.sleep(0.01)
        port = self._server.servers[0].sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}/"

    def _answer(self, question: str, texts: Sequence[str]) -> str:
        self.free.wait(20)
        if "Atlantis" in question:
            return ""
        return best_sentence(question, texts)

    def know(self, **texts: str) -> None:
        for key, text in texts.items():
            self.ingest(key, text)

    def ingest(self, key: str, text: str, title: str = "") -> None:
        qa = self.service.tenants.get("default").qa
        qa.ingest(Document(id=key, text=text, title=title or key, source=key))

    def key(self, scope: Scope = Scope.WRITE) -> str:
        assert self.service.keys is not None
        return self.service.keys.create("default", scope)[1]

    def stop(self) -> None:
        self.free.set()
        self._server.should_exit = True
        self._thread.join(20)


Open = Callable[..., Any]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with ExitStack() as stack:
        try:
            opened = stack.enter_context(chromium())
        except InputError as exc:
            pytest.skip(str(exc))
        yield opened


@pytest.fixture
def open_site(tmp_path: Path) -> Iterator[Open]:
    sites: list[Site] = []

    def open_site(auth: bool = False, **serve: Any) -> Site:
        sites.append(Site(tmp_path / f"home{len(sites)}", auth, **serve))
        return sites[-1]

    yield open_site
    for site in sites:
        site.stop()


@pytest.fixture
def site(open_site: Open) -> Site:
    """Without keys, knowing two documents."""
    opened: Site = open_site()
    opened.know(lamp=LAMP, bridge=BRIDGE)
    return opened


@pytest.fixture
def open_tab(browser: Any) -> Iterator[Open]:
    """Opens a site; what goes wrong in the page or leaves the site fails the test."""
    wrong: list[str] = []

    def open_tab(site: Site, width: int = 1280, dark: bool = False) -> Any:
        tab = browser.new_page(
            viewport={"width": width, "height": 844},
            color_scheme="dark" if dark else "light",
            reduced_motion="reduce",
        )
        tab.set_default_timeout(10_000)

        def console(line: Any) -> None:
            # Chromium reports refused requests there, too; those the page shows.
            if line.type == "error" and not line.text.startswith("Failed to load resource"):
                wrong.append(line.text)

        tab.on("console", console)
        tab.on("pageerror", lambda error: wrong.append(str(error)))
        tab.on("request", lambda it: None if it.url.startswith(site.url) else wrong.append(it.url))
        tab.on("dialog", lambda dialog: wrong.append(dialog.message))
        tab.goto(site.url)
        tab.wait_for_selector("html[data-ready]")
        return tab

    yield open_tab
    for context in browser.contexts:
        context.close()
    assert wrong == []


def ask(tab: Any, question: str) -> Any:
    """Ask, and return the card of the answer."""
    tab.locator("#question").fill(question)
    tab.locator("#question").press("Enter")
    return tab.locator("#answers > article").first


def answered(tab: Any, question: str) -> Any:
    card = ask(tab, question)
    tab.wait_for_function(
        "() => !document.querySelector('#answers > article').hasAttribute('aria-busy')"
    )
    return card


def marked(tab: Any) -> str:
    return str(tab.locator("#reader-text mark").text_content())


def test_page_is_public_static_and_may_run_only_its_own_scripts() -> None:
    app = FastAPI()
    app.include_router(page.router())
    client = TestClient(app)

    response = client.get("/")
    rules = dict(
        rule.split(" ", 1) for rule in response.headers["Content-Security-Policy"].split("; ")
    )
    assert response.status_code == 200
    assert rules["default-src"] == rules["trusted-types"] == "'none'"
    assert rules["script-src"] == rules["connect-src"] == rules["style-src"] == "'self'"
    assert "unsafe" not in response.headers["Content-Security-Policy"]
    assert not re.search(r"<script>|<style>|\sstyle=|\son\w+=|https?://", response.text)
    linked = re.findall(r'(?:src|href)="(page/[^"]+)"', response.text)
    assert {"page/app.js", "page/style.css"} <= set(linked)
    pending, seen = linked, set()
    while pending:
        name = pending.pop()
        if name in seen:
            continue
        seen.add(name)
        file = client.get(f"/{name}")
        assert file.status_code == 200
        assert file.headers["X-Content-Type-Options"] == "nosniff"
        if name.endswith(".js"):
            assert file.headers["Content-Type"].startswith("text/javascript")
            pending += [f"page/{found}" for found in re.findall(r'from "\./([^"]+)"', file.text)]
    assert client.get("/page/page.py").status_code == 404
    assert client.get("/page/..%2fpage.py").status_code == 404


def test_files_are_asked_for_anew_but_sent_only_when_changed() -> None:
    app = FastAPI()
    app.include_router(page.router())
    client = TestClient(app)

    for path in ("/", "/page/app.js"):
        first = client.get(path)
        assert first.headers["Cache-Control"] == "no-cache"
        tag = first.headers["ETag"]
        again = client.get(path, headers={"If-None-Match": f'"other", W/{tag}'})
        assert (again.status_code, again.content, again.headers["ETag"]) == (304, b"", tag)
        assert client.get(path, headers={"If-None-Match": '"other"'}).status_code == 200
        head = client.head(path)
        assert (head.status_code, head.content, head.headers["ETag"]) == (200, b"", tag)


def test_route_stands_there_before_the_answer_then_answer_and_cited_words(
    site: Site, open_tab: Open
) -> None:
    tab = open_tab(site)
    site.free.clear()

    card = ask(tab, WHO)
    card.locator(".route .badge").wait_for()
    assert card.locator(".route li").count() >= 1
    assert "Ilse" not in card.inner_text()
    site.free.set()
    card.locator("button.cite").first.wait_for()
    assert "Ilse Marrow" in card.locator(".answer").inner_text()
    tab.locator("#reader-text mark").wait_for()
    assert "Ilse Marrow" in marked(tab)
    assert card.locator("button.cite[aria-pressed=true]").count() == 1
    assert "Confidence" not in card.inner_text()
    card.get_by_text("How this was answered").click()
    assert "Confidence" in card.inner_text()
    assert "Answer: " in tab.locator("#said").text_content()


def test_cited_words_are_marked_exactly_and_scrolled_to_whatever_stands_before(
    site: Site, open_tab: Open
) -> None:
    before = "🎉👩‍👩‍👧 naïve \U0001f9e0 filler without any sense.\r\n" * 1500
    site.ingest("long", f"{before}The Brassova clock was built by Odo Fenn in 1904. {before}")
    tab = open_tab(site)

    card = answered(tab, "Who built the Brassova clock?")
    tab.locator("#reader-text mark").wait_for()
    quote = card.locator("button.cite q").first.inner_text().strip("“”\"'")
    assert "Odo Fenn" in quote
    assert marked(tab) == quote
    assert tab.evaluate(IN_SIGHT)
    assert len(tab.locator("#reader-text").text_content()) < 25_000
    tab.get_by_role("button", name="Earlier text").click()
    assert tab.locator("#reader-text mark").count() == 0
    assert "�" not in tab.locator("#reader-text").text_content()
    tab.get_by_role("button", name="To the cited words").click()
    assert marked(tab) == quote
    assert tab.evaluate(IN_SIGHT)


def test_changed_document_is_told_instead_of_marking_other_words(
    site: Site, open_tab: Open
) -> None:
    tab = open_tab(site)
    card = answered(tab, WHO)
    tab.locator("#reader-text mark").wait_for()

    site.know(lamp=f"Quite another beginning, which is new. {LAMP}")
    card.locator("button.cite").first.click()
    tab.get_by_text("The document was changed after this answer").wait_for()
    assert tab.locator("#reader-text mark").count() == 0


def test_nothing_from_the_service_becomes_markup(site: Site, open_tab: Open) -> None:
    hostile = f"dir/{EVIL}?a=b#c&amp;"
    site.ingest(hostile, f"{EVIL} The Ottoline mill was sold to Pim Quast. {EVIL}", title=EVIL)
    tab = open_tab(site)

    answered(tab, f"Who was the Ottoline mill sold to? {EVIL}")
    tab.locator("#reader-text").wait_for()
    assert EVIL in tab.locator("#reader-text").text_content()
    assert hostile in tab.locator("#answers").text_content()
    assert EVIL in tab.locator("#documents-list").text_content()
    tab.get_by_role("button", name=f"Delete {hostile}"[:100]).click()
    assert hostile in tab.locator("#confirm").text_content()
    tab.locator("#confirm-yes").click()
    tab.wait_for_function(
        "() => document.querySelectorAll('#documents-list .document').length === 2"
    )
    assert tab.title() == "hybridqa"
    assert tab.locator("img, #answers script, #side script").count() == 0


def test_abstention_says_that_nothing_was_found(site: Site, open_tab: Open) -> None:
    tab = open_tab(site)

    card = answered(tab, "Where was Atlantis?")

    assert "Nothing was found that answers this." in card.inner_text()
    assert card.locator("button.cite").count() == 0


def test_another_way_than_the_first_is_told_with_what_led_to_it(site: Site, open_tab: Open) -> None:
    policy = DEFAULT_POLICY.read_text().replace("min_confidence: 0.0 ", "min_confidence: 0.95 ")
    site.service.tenants.get("default").qa.put_policy(policy)
    tab = open_tab(site)

    card = answered(tab, WHO)

    ways = card.locator(".route .badge").all_inner_texts()
    assert ways == ["adapter", "retrieval"]
    assert "Tried first the document's weights" in card.locator(".route > p").first.inner_text()
    led = card.locator(".route > ul").last.inner_text()
    assert "fell back to retrieval" in led
    assert "always" not in led  # why the first way was taken


def test_arm_wording_and_documents_are_asked_for_as_chosen(site: Site, open_tab: Open) -> None:
    tab = open_tab(site)

    tab.get_by_label("Ask about bridge").check()
    tab.locator("#arm").select_option("retrieval")
    tab.locator("#style").select_option("free")
    with tab.expect_request("**/v1/answers") as sent:
        card = answered(tab, WHO)
    assert sent.value.post_data_json == {
        "question": WHO,
        "arm": "retrieval",
        "style": "free",
        "documents": ["bridge"],
        "stream": True,
    }
    assert "the caller asked for it" in card.inner_text()
    assert "Ilse" not in card.inner_text()
    tab.get_by_role("button", name="Do not ask about bridge only").click()
    assert not tab.get_by_label("Ask about bridge").is_checked()
    with tab.expect_request("**/v1/answers") as sent:
        card = answered(tab, WHO)
    assert sent.value.post_data_json["documents"] == []
    assert "Ilse" in card.inner_text()


def test_answers_stay_newest_first_and_the_oldest_go(site: Site, open_tab: Open) -> None:
    tab = open_tab(site)

    answered(tab, WHO)
    answered(tab, "What is painted green?")
    shown = tab.locator("#answers h3").all_inner_texts()
    assert shown == ["What is painted green?", WHO]
    for n in range(32):
        answered(tab, f"Who designed lamp number {n}?")
    assert tab.locator("#answers > article").count() == 30
    assert WHO not in tab.locator("#answers").inner_text()


def test_text_is_added_followed_read_and_deleted(site: Site, open_tab: Open) -> None:
    tab = open_tab(site)

    tab.locator("#add summary").click()
    tab.locator("#text-id").fill("notes/mill 1.txt")
    tab.locator("#text").fill("The mill at Orrin grinds rye.")
    tab.get_by_role("button", name="Add this text").click()
    tab.locator("#jobs").get_by_text("1 document taken in").wait_for()
    tab.get_by_role("button", name="notes/mill 1.txt", exact=True).click()
    tab.get_by_text("grinds rye").wait_for()
    delete = tab.get_by_role("button", name="Delete notes/mill 1.txt")
    delete.click()
    tab.keyboard.press("Escape")
    assert site.service.tenants.get("default").qa.catalog.live_hash("notes/mill 1.txt")
    delete.click()
    tab.locator("#confirm-yes").click()
    tab.wait_for_function(
        "() => document.querySelectorAll('#documents-list .document').length === 2"
    )
    assert site.service.tenants.get("default").qa.catalog.live_hash("notes/mill 1.txt") is None
    assert tab.locator("#reader").is_hidden()


def test_files_are_taken_and_what_is_wrong_with_one_is_told(
    site: Site, open_tab: Open, tmp_path: Path
) -> None:
    (tmp_path / "one.md").write_text("# One\n\nThe first file tells of rye.")
    (tmp_path / "two.pdf").write_text("no PDF at all")
    (tmp_path / "three.xyz").write_text("?")
    tab = open_tab(site)
    tab.locator("#add summary").click()

    tab.locator("#files").set_input_files([tmp_path / "one.md", tmp_path / "two.pdf"])
    tab.locator("#jobs").get_by_text("1 document taken in, 1 could not be").wait_for()
    assert "two.pdf" in tab.locator("#jobs .bad").inner_text()
    tab.get_by_label("Ask about one.md").wait_for()
    tab.locator("#files").set_input_files([tmp_path / "three.xyz"])
    tab.locator("#documents-trouble .trouble").wait_for()
    assert ".xyz" in tab.locator("#documents-trouble").inner_text()
    assert "Request id" in tab.locator("#documents-trouble").inner_text()
    tab.evaluate("""() => {
      const carried = new DataTransfer();
      carried.items.add(new File(["A dropped file tells of oats."], "dropped.txt"));
      const how = { dataTransfer: carried, bubbles: true, cancelable: true };
      document.getElementById("documents-list").dispatchEvent(new DragEvent("drop", how));
    }""")
    tab.get_by_label("Ask about dropped.txt").wait_for()


def test_documents_are_turned_page_by_page(site: Site, open_tab: Open) -> None:
    for n in range(30):
        site.ingest(f"many-{n:02}", f"Text number {n}.")
    tab = open_tab(site)

    tab.get_by_label("Ask about many-05").wait_for()
    assert tab.locator(".document").count() == 25
    tab.locator("#pager-on").click()
    tab.get_by_label("Ask about many-29").wait_for()
    assert tab.locator(".document").count() == 7
    assert tab.locator("#pager-on").is_disabled()
    tab.locator("#pager-back").click()
    tab.get_by_label("Ask about many-05").wait_for()
    assert "32 in all" in tab.locator("#documents-count").inner_text()


def test_key_is_asked_for_kept_in_the_tab_only_and_forgotten(
    open_site: Open, open_tab: Open
) -> None:
    site = open_site(auth=True)
    site.know(lamp=LAMP)
    tab = open_tab(site)

    tab.locator("#key-dialog").wait_for()
    assert tab.locator("#key-trouble").inner_text() == ""
    tab.locator("#key").fill("hqa_wrong")
    tab.keyboard.press("Enter")
    tab.get_by_text("This API key is not valid").wait_for()
    secret = site.key()
    tab.locator("#key").fill(secret)
    tab.keyboard.press("Enter")
    tab.get_by_label("Ask about lamp").wait_for()
    assert "Ilse Marrow" in answered(tab, WHO).inner_text()
    stored = "() => [Object.values(sessionStorage), Object.values(localStorage), document.cookie]"
    assert tab.evaluate(stored) == [[secret], [], ""]
    assert secret not in tab.content()
    tab.reload()
    tab.get_by_label("Ask about lamp").wait_for()
    answered(tab, WHO)
    tab.locator("#text").evaluate("(field) => { field.value = 'Of nobody else.'; }")
    tab.get_by_role("button", name="Sign out").click()
    assert tab.evaluate(stored) == [[], [], ""]
    assert "Ilse" not in tab.locator("body").text_content()
    assert [tab.locator(field).input_value() for field in ("#question", "#text")] == ["", ""]
    assert tab.locator(".document").count() == 0
    tab.get_by_role("button", name="Sign in").click()
    assert tab.locator("#key-dialog").is_visible()


def test_revoked_key_asks_for_another_and_a_reader_may_only_read(
    open_site: Open, open_tab: Open
) -> None:
    site = open_site(auth=True)
    site.know(lamp=LAMP)
    tab = open_tab(site)
    tab.locator("#key").fill(site.key(Scope.READ))
    tab.keyboard.press("Enter")
    tab.get_by_label("Ask about lamp").wait_for()
    assert tab.locator("#add").is_hidden()
    assert tab.get_by_role("button", name="Delete lamp").count() == 0

    for key in site.service.keys.list():
        site.service.keys.revoke(key.id)
    ask(tab, WHO)
    tab.get_by_text("This API key is not valid").wait_for()
    assert tab.locator(".document").count() == 0


def test_errors_are_shown_with_their_remedy_and_request_id(site: Site, open_tab: Open) -> None:
    tab = open_tab(site)

    card = answered(tab, "Who? " * 100)

    told = card.locator(".trouble").inner_text()
    assert "400" in told  # characters, the limit
    assert re.search(r"Request id [0-9a-f]{32}", told)
    assert card.get_by_role("button", name="Ask again").count() == 1


def test_crowd_is_told_when_to_try_again(open_site: Open, open_tab: Open) -> None:
    site = open_site(max_asking=1, max_asking_by_tenant=1)
    site.know(lamp=LAMP)
    tab = open_tab(site)
    site.free.clear()
    first = ask(tab, WHO)
    first.locator(".badge").wait_for()

    second = ask(tab, "What does the Corvane lamp weigh?")
    second.locator(".trouble").wait_for()
    assert re.search(r"Try again in \d+ s, from \d\d:\d\d:\d\d", second.inner_text())
    again = second.get_by_role("button", name="Ask again")
    assert again.is_disabled()
    site.free.set()
    tab.wait_for_function("() => !document.querySelector('[aria-busy]')")
    again.click()
    tab.locator("#answers > article").nth(2).wait_for()
    tab.wait_for_function("() => !document.querySelector('[aria-busy]')")
    assert "Corvane" in tab.locator("#answers > article").first.inner_text()


def test_stopped_question_and_stopped_service_are_told(open_site: Open, open_tab: Open) -> None:
    site = open_site()
    site.know(lamp=LAMP)
    tab = open_tab(site)
    site.free.clear()

    card = ask(tab, WHO)
    card.locator(".badge").wait_for()
    card.get_by_role("button", name="Stop").click()
    card.get_by_text("Stopped.").wait_for()
    site.stop()
    card = answered(tab, WHO)
    assert "cannot be reached" in card.inner_text()


def test_page_works_by_keyboard_alone(site: Site, open_tab: Open) -> None:
    tab = open_tab(site)
    here = "() => document.activeElement.id"

    tab.keyboard.press("Tab")
    tab.keyboard.press("Enter")  # skips to the question
    assert tab.evaluate(here) == "question"
    tab.keyboard.type("Who designed")
    tab.keyboard.press("Shift+Enter")
    tab.keyboard.type("the Corvane lamp?")
    tab.keyboard.press("Enter")
    tab.locator("button.cite").first.wait_for()
    for _ in range(8):
        tab.keyboard.press("Tab")
        if tab.evaluate("() => document.activeElement.classList.contains('cite')"):
            break
    tab.keyboard.press("Enter")
    tab.wait_for_function("() => document.activeElement.id === 'reader-title'")
    tab.keyboard.press("Tab")  # Close
    tab.keyboard.press("Enter")
    assert tab.evaluate("() => document.activeElement.classList.contains('cite')")


def test_every_control_has_a_name(site: Site, open_tab: Open) -> None:
    tab = open_tab(site)
    answered(tab, WHO)
    tab.locator("#add summary").click()

    unnamed = tab.evaluate("""() =>
      [...document.querySelectorAll("button, input, select, textarea")]
      .filter((it) => !(it.tagName === "BUTTON" && it.textContent.trim())
        && !it.labels?.length && !it.getAttribute("aria-label"))
      .map((it) => it.outerHTML)""")
    assert unnamed == []


@pytest.mark.parametrize("dark", [False, True])
def test_nothing_is_cut_off_on_a_phone(site: Site, open_tab: Open, dark: bool) -> None:
    site.ingest("long/" + "name" * 60, "word" * 3000)
    tab = open_tab(site, width=PHONE, dark=dark)

    card = answered(tab, "w" * 300)
    answered(tab, WHO)
    tab.locator("#add summary").click()
    overflow = "() => document.documentElement.scrollWidth"
    assert tab.evaluate(overflow) <= PHONE
    assert tab.locator("#reader").is_hidden()
    card.locator("button.cite").first.click()
    tab.locator("#reader-text mark").wait_for()
    tab.wait_for_function(IN_SIGHT)
    assert tab.evaluate(overflow) <= PHONE
