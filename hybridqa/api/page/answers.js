// Questions asked in this session, the newest first: the way chosen, the answer, what it cites.

import { listen, stopped, troubleOf, Trouble } from "./api.js";
import { button, byId, count, el, milliseconds, rich, say, shortened } from "./dom.js";
import { read } from "./reader.js";
import { troubleBox } from "./trouble.js";

const KEPT = 30;
const SHOWN_CITATIONS = 50;
const SHOWN_QUOTE = 240;
const FIRST_REASONS = 3;
const WAYS = {
  base: "the model alone, without any document",
  adapter: "the document's weights, without its text",
  retrieval: "passages found in the documents",
  both: "passages found, and the document's weights",
};

const running = new Map(); // card: AbortController

// `asked` is {question, arm, style, documents}.
export function ask(asked) {
  const card = el("article", { class: "answer-card", "aria-busy": "true" });
  const parts = {
    route: el("div", { class: "route" }, el("span", { class: "muted" }, "Choosing the way…")),
    text: el("p", { class: "answer wrap" }),
    cited: el("div"),
    how: el("div"),
  };
  const stop = button("Stop", () => running.get(card)?.abort(), { class: "quiet stop" });
  card.append(el("div", { class: "head" }, el("h3", { class: "wrap" }, shortened(asked.question, 600)), stop), parts.route, parts.text, parts.cited, parts.how);
  byId("answers").prepend(card);
  byId("no-answers").hidden = true;
  for (const oldest of [...byId("answers").children].slice(KEPT)) remove(oldest);
  follow(card, parts, asked, stop);
}

export function removeAll() {
  for (const card of [...byId("answers").children]) remove(card);
  byId("no-answers").hidden = false;
}

function remove(card) {
  running.get(card)?.abort();
  card.remove();
}

async function follow(card, parts, asked, stop) {
  const abort = new AbortController();
  running.set(card, abort);
  let route = null;
  let done = null;
  const heard = {
    route: (told) => {
      route = told;
      parts.route.replaceChildren(...routeLines("Answering from", told.arm, told.reasons));
      parts.text.replaceChildren(el("span", { class: "muted" }, "One moment…"));
      say(`Answering from ${WAYS[told.arm] ?? told.arm}.`);
    },
    token: ({ text }) => {
      if (!parts.text.classList.contains("begun")) {
        parts.text.replaceChildren();
        parts.text.classList.add("begun");
      }
      parts.text.append(text);
    },
    done: (answer) => {
      done = answer;
      show(parts, answer, route);
    },
    error: (problem) => { throw troubleOf(problem); },
  };
  try {
    await listen("v1/answers", { method: "POST", json: { ...asked, stream: true }, signal: abort.signal }, (event, data) => heard[event]?.(data));
    if (done === null) throw new Trouble("The connection ended before the answer was there.");
  } catch (error) {
    if (!card.isConnected) return;
    if (route === null) parts.route.replaceChildren();
    parts.text.replaceChildren();
    if (stopped(error)) parts.cited.replaceChildren(el("p", { class: "muted" }, "Stopped."));
    else {
      parts.cited.replaceChildren(troubleBox(error, () => ask(asked)));
      say(`There is no answer. ${error.message}`);
    }
  } finally {
    running.delete(card);
    stop.remove();
    card.removeAttribute("aria-busy");
  }
}

function routeLines(began, arm, reasons) {
  const shown = reasons.slice(0, 30).map((reason) => el("li", {}, rich(shortened(reason, 600))));
  const folded = shown.splice(FIRST_REASONS);
  return [
    el("p", {}, el("span", { class: "badge" }, arm), ` ${began} ${WAYS[arm] ?? arm}, because`),
    el("ul", { class: "reasons" }, shown),
    folded.length > 0 && el("details", {}, el("summary", {}, count(folded.length, "more reason")), el("ul", { class: "reasons" }, folded)),
  ].filter(Boolean);
}

function show(parts, answer, route) {
  const fellBack = route && route.arm !== answer.arm;
  const before = fellBack ? routeLines("Tried first", route.arm, route.reasons) : [];
  // The answer's reasons begin with the route's; what the checks found is why another way was taken.
  const reasons = fellBack ? answer.reasons.slice(route.reasons.length) : answer.reasons;
  const tried = fellBack ? "Then tried" : "Tried";
  parts.route.replaceChildren(...before, ...routeLines(answer.abstained ? tried : "Answered from", answer.arm, reasons));
  if (answer.abstained) {
    parts.text.classList.add("nothing");
    parts.text.replaceChildren("Nothing was found that answers this.");
    parts.cited.replaceChildren(el("p", { class: "small muted" }, "The documents do not tell, or not surely enough. Ask in other words, of other documents, or add the one that tells."));
  } else {
    parts.text.replaceChildren(answer.answer);
    parts.cited.replaceChildren(...citationLines(answer));
  }
  parts.how.replaceChildren(how(answer));
  say(answer.abstained ? "Nothing was found that answers this." : `Answer: ${answer.answer}. ${answer.citations.length} cited.`);
  const first = parts.cited.querySelector("button.cite");
  // Beside the answer there is room at once; below it, only when asked for.
  if (first && matchMedia("(min-width: 60rem)").matches) choose(first, answer.citations[0], false);
}

function citationLines(answer) {
  const { citations } = answer;
  if (citations.length === 0) return [el("p", { class: "small muted" }, "No document is cited: nothing shows where this comes from.")];
  const items = citations.slice(0, SHOWN_CITATIONS).map((citation) => {
    const press = button("", () => choose(press, citation, true), { class: "cite", "aria-pressed": "false" });
    press.append(el("b", {}, shortened(citation.document_id, 120)), el("q", {}, shortened(citation.quote, SHOWN_QUOTE)));
    return el("li", {}, press);
  });
  return [el("ol", { class: "citations", "aria-label": "Cited" }, items)];
}

function choose(press, citation, moving) {
  for (const other of document.querySelectorAll("button.cite[aria-pressed='true']")) other.setAttribute("aria-pressed", "false");
  press.setAttribute("aria-pressed", "true");
  read(citation.document_id, { citation, back: press, moving });
}

function how(answer) {
  const { adapter, timings_ms: timings } = answer;
  const energy = typeof adapter?.energy === "number" ? `, energy ${adapter.energy.toFixed(2)}` : "";
  const checks = [...new Set(answer.citations.map((citation) => citation.verified))].join(", ");
  const facts = [
    ["Confidence", `${Math.round(100 * answer.confidence)} %`],
    ["Wording", answer.style],
    ["Weights worn", adapter ? `${adapter.document_id} (${adapter.internalizer}, rank ${adapter.rank}${energy})` : "none"],
    ["Citations checked", checks || "none"],
    ["Tokens", `${answer.prompt_tokens} read, ${answer.completion_tokens} written`],
    ["Times", Object.entries(timings).map(([stage, ms]) => `${stage} ${milliseconds(ms)}`).join(", ")],
    ["Request id", answer.id],
  ];
  return el("details", {}, el("summary", {}, "How this was answered"),
    el("dl", { class: "facts" }, facts.map(([name, value]) => [el("dt", {}, name), el("dd", { class: "wrap" }, value)])));
}
