// A document's text, with what an answer cites of it marked and in sight.

import { call, documentPath, stopped } from "./api.js";
import { button, byId, calm, count, el, say, shortened } from "./dom.js";
import { around, onCharacter, unitIndex } from "./text.js";
import { troubleBox } from "./trouble.js";

const SHOWN = 20000; // UTF-16 units of text in the page at a time

let loading = null;
let open = null; // {id, back}

export const isOpen = (id) => open !== null && open.id === id;

// `back` is what gets the focus when the reader is closed. `moving` goes there: on a narrow page the reader is far away.
export async function read(id, { citation = null, back = null, moving = true } = {}) {
  loading?.abort();
  loading = new AbortController();
  const { signal } = loading;
  open = { id, back };
  const pane = byId("reader");
  const title = el("h2", { id: "reader-title", tabindex: "-1", class: "wrap" }, shortened(id, 300));
  const holder = el("div", { class: "reading" }, el("p", { class: "muted" }, "Loading the text…"));
  const toList = button("Close", close, { class: "quiet" });
  pane.replaceChildren(el("div", { class: "head" }, title, toList), holder);
  pane.hidden = false;
  byId("side").classList.add("reads");
  if (moving) title.focus({ preventScroll: true });
  try {
    const shown = await call(`${documentPath(id)}?text=true`, { signal });
    if (shown.title && shown.title !== id) title.textContent = shortened(shown.title, 300);
    draw(holder, shown, citation);
    if (moving) pane.scrollIntoView({ block: "nearest", behavior: calm() });
    if (moving) say(citation ? `The cited words in ${id} are marked.` : `The text of ${id}.`);
  } catch (error) {
    if (stopped(error)) return;
    const gone = error.status === 404 ? el("p", {}, "It may have been deleted since.") : "";
    holder.replaceChildren(troubleBox(error), gone);
    if (moving) pane.scrollIntoView({ block: "nearest", behavior: calm() });
  }
}

export function close() {
  loading?.abort();
  const back = open?.back;
  open = null;
  byId("reader").hidden = true;
  byId("reader").replaceChildren();
  byId("side").classList.remove("reads");
  (back?.isConnected ? back : byId("documents-title")).focus();
}

function draw(holder, shown, citation) {
  const { text } = shown;
  let cited = null;
  let warning = null;
  if (citation) {
    const start = unitIndex(text, citation.start);
    const end = start + unitIndex(text.slice(start), citation.end - citation.start);
    cited = [start, end];
    if (text.slice(start, end) !== citation.quote) {
      cited = null;
      warning = el("p", { class: "warn small" }, "The document was changed after this answer: the words it cites no longer stand where they did.");
    }
  }
  const what = [count(shown.characters, "character"), shown.id, shown.source !== shown.id && shown.source, shown.modified_at && `changed ${shown.modified_at.slice(0, 10)}`];
  const facts = el("p", { class: "small muted wrap" }, shortened(what.filter(Boolean).join(" · "), 600));
  const box = el("div", { class: "text", id: "reader-text", tabindex: "0", role: "region", "aria-label": "Text of the document" });
  const earlier = button("Earlier text", () => turn(from - SHOWN, true));
  const later = button("Later text", () => turn(to, false));
  const place = el("small", { class: "muted" });
  const toCited = cited && button("To the cited words", showCited);
  const turning = el("div", { class: "turning" }, earlier, later, toCited, place);
  let from = 0;
  let to = 0;

  function show(first, last) {
    [from, to] = [first, last];
    const pieces = [];
    if (cited && cited[0] < to && cited[1] > from) {
      const [start, end] = [Math.max(from, cited[0]), Math.min(to, cited[1])];
      pieces.push(text.slice(from, start), el("mark", { class: "cited" }, text.slice(start, end)), text.slice(end, to));
    } else pieces.push(text.slice(from, to));
    box.replaceChildren(from > 0 ? "… " : "", ...pieces, to < text.length ? " …" : "");
    earlier.disabled = from === 0;
    later.disabled = to === text.length;
    place.textContent = `${Math.round((100 * from) / (text.length || 1))} to ${Math.round((100 * to) / (text.length || 1))} % of the text`;
  }

  function turn(first, atEnd) {
    const start = onCharacter(text, Math.min(first, text.length - SHOWN));
    show(start, onCharacter(text, start + SHOWN));
    box.scrollTop = atEnd ? box.scrollHeight : 0;
  }

  function showCited() {
    show(...around(text, cited[0], SHOWN));
    box.scrollTop = box.querySelector("mark.cited").offsetTop - box.clientHeight / 3;
  }

  holder.replaceChildren(facts, warning ?? "", box, text.length > SHOWN ? turning : "");
  if (cited) showCited();
  else show(0, onCharacter(text, SHOWN));
}
