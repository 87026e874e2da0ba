// The table of questions: what is shown lives in `state`, and in the address, so it can be shared.

const PAGE = 50;
const SORTS = [
  ["asked", "order asked"], ["gain", "biggest gain of the second"], ["loss", "biggest loss of the second"], ["apart", "biggest difference"],
  ["worst", "lowest score"], ["best", "highest score"], ["slowest", "slowest"], ["id", "id"],
];
const FILTERS = {
  all: ["all", () => "All questions.", () => true],
  right: ["right", ([first]) => `${first} is right.`, (n) => rightOf(state.columns[0], n) === true],
  wrong: ["wrong", ([first]) => `${first} is wrong.`, (n) => rightOf(state.columns[0], n) === false],
  improved: ["improved", ([first, second]) => (second ? `${second} scores higher than ${first}.` : "Needs a second arm."), (n) => deltaOf(n) > 0],
  regressed: ["regressed", ([first, second]) => (second ? `${second} scores lower than ${first}.` : "Needs a second arm."), (n) => deltaOf(n) < 0],
  disagree: ["disagree", () => "The arms shown give different answers.", (n) => new Set(state.columns.map((column) => plain(answerText(column, n)))).size > 1],
  abstained: ["no answer", () => "One of the arms shown gave no answer.", (n) => state.columns.some((column) => abstained(column, n))],
  error: ["error", () => "An arm could not be asked, or a judge gave no score.", (n) => state.columns.some((column) => errorOf(column, n) || failureOf(column, state.metric, n))],
  unanswerable: ["unanswerable", () => "No document says it: the right answer is none.", (n) => goldOf(n).length === 0],
};

let state;
let found = []; // numbers of the questions that are shown, in order
let haystacks = { of: null, texts: [] };

const plain = (text) => text.toLowerCase().replace(/[^\p{L}\p{N}]+/gu, " ").trim();
// Whether an answer is right: as the metric says, else by half of the score shown; null where neither is known.
function rightOf(column, n) {
  const score = scoreOf(column, run().metric.has("correct") ? "correct" : state.metric, n);
  return score === null ? null : score >= 0.5;
}

function deltaOf(n) {
  const [first, second] = state.columns.map((column) => scoreOf(column, state.metric, n));
  return first === null || second === null || second === undefined ? null : second - first;
}

function initialState() {
  const { pick, router, rival } = findings();
  const ranked = byMean(summary().arms);
  const before = data.runs[1]?.summary.arms ?? [];
  const same = [router, pick, ...ranked, ...summary().arms].find((arm) => before.includes(arm));
  const first = pick ?? summary().arms[0];
  const second = [router, rival, ...ranked].find((arm) => arm && arm !== first);
  return { columns: same ? [same + BEFORE, same] : [first, second].filter(Boolean), metric: summary().primary, search: "", filter: "all", label: "", value: "", sort: "asked", page: 0, open: null };
}

function labelValues() {
  const { labels = {}, documents, answers } = data.questions;
  return {
    ...labels,
    document: documents.map(([first]) => (first === undefined ? null : data.documents[first].id)),
    answerable: answers.map((golds) => (golds.length ? "yes" : "no")),
  };
}

function haystack(n) {
  const of = state.columns.join("\n");
  if (haystacks.of !== of) haystacks = { of, texts: [] };
  return (haystacks.texts[n] ??= [data.questions.id[n], data.questions.question[n], ...goldOf(n), ...state.columns.map((column) => answerText(column, n))].join("\n").toLowerCase());
}

// All questions that pass search and slice, then by filter, so that the chips can tell their counts.
function select() {
  const words = state.search.toLowerCase().split(/\s+/).filter(Boolean);
  const values = state.label ? labelValues()[state.label] ?? [] : null;
  const passing = Array.from({ length: asked() }, (_, n) => n)
    .filter((n) => (!values || state.value === "" || String(values[n]) === state.value) && words.every((word) => haystack(n).includes(word)));
  const counts = Object.fromEntries(Object.entries(FILTERS).map(([name, [, , test]]) => [name, passing.filter(test).length]));
  found = passing.filter(FILTERS[state.filter][2]).toSorted(order());
  return counts;
}

function order() {
  const last = (value, otherwise) => (value === null ? otherwise : value);
  const low = (n) => Math.min(...state.columns.map((column) => last(scoreOf(column, state.metric, n), 2)));
  const high = (n) => Math.max(...state.columns.map((column) => last(scoreOf(column, state.metric, n), -1)));
  const slow = (n) => Math.max(...state.columns.map((column) => last(totalOf(column, n), -1)));
  const by = {
    gain: (n) => -last(deltaOf(n), -2), loss: (n) => last(deltaOf(n), 2), apart: (n) => -Math.abs(last(deltaOf(n), 0)),
    worst: low, best: (n) => -high(n), slowest: (n) => -slow(n),
  }[state.sort];
  if (state.sort === "id") return (one, other) => data.questions.id[one].localeCompare(data.questions.id[other], "en", { numeric: true });
  return by ? (one, other) => by(one) - by(other) || one - other : (one, other) => one - other;
}

function change(next) {
  state = { ...state, page: 0, ...next };
  showTable();
  writeAddress();
}

function showTable() {
  const counts = select();
  const pages = Math.max(1, Math.ceil(found.length / PAGE));
  state.page = Math.min(state.page, pages - 1);
  showFilters(counts);
  const rows = found.slice(state.page * PAGE, (state.page + 1) * PAGE);
  byId("count").textContent = `${whole(found.length)} of ${count(asked(), "question")}`;
  byId("table").replaceChildren(rows.length ? el("table", { class: "asked", role: "table" },
    el("caption", { class: "hidden" }, "Questions and the answers of the chosen arms"),
    el("thead", { role: "rowgroup" }, el("tr", { role: "row" }, heading("Question"), state.columns.map((column) => heading(columnLabel(column))), state.columns.length > 1 ? heading(directionLabel(), "num") : null)),
    el("tbody", { role: "rowgroup" }, rows.map(questionRow)))
    : el("p", { class: "notice" }, "No question matches. ", el("button", { type: "button", on: { click: () => { change({ search: "", filter: "all", label: "", value: "" }); showControls(); } } }, "Show all")));
  showPager(pages);
}

// What the difference is of: the second arm minus the first.
const directionLabel = () => `${columnLabel(state.columns[1])} ${MINUS} ${columnLabel(state.columns[0])}`;

const GOLD_LENGTH = 70; // characters of the expected answers that a row shows

function goldWords(golds) {
  if (!golds.length) return "unanswerable: no document says it";
  const words = golds.filter((gold, place) => golds.findIndex((other) => plain(other) === plain(gold)) === place).join(" or ");
  return `expected: ${words.length > GOLD_LENGTH ? `${words.slice(0, GOLD_LENGTH).trimEnd()}\u2026` : words}`;
}

const heading = (text, kind = "") => el("th", { scope: "col", role: "columnheader", class: kind }, text);

function questionRow(n) {
  const delta = deltaOf(n);
  const id = data.questions.id[n];
  return el("tr", { role: "row", id: `row-${n}`, on: { click: openRow } },
    el("th", { scope: "row", role: "rowheader" }, el("a", { class: "open", href: addressOf({ open: id }) }, data.questions.question[n]),
      el("small", {}, `${id} \u00b7 ${goldWords(goldOf(n))}`)),
    state.columns.map((column) => answerCell(column, n)),
    state.columns.length > 1 ? el("td", { role: "cell", class: "num delta", "data-label": directionLabel() }, deltaWords(delta)) : null);
}

// A click anywhere in a row opens it, unless words are being marked.
function openRow(event) {
  if (!event.target.closest("a") && getSelection().isCollapsed) event.currentTarget.querySelector("a.open").click();
}

function deltaWords(delta) {
  if (delta === null) return NONE;
  if (Math.abs(delta) < 0.0005) return "=";
  return el("span", { class: delta > 0 ? "better" : "worse" }, `${delta > 0 ? "\u25b2" : "\u25bc"} ${signed(delta)}`);
}

function answerCell(column, n) {
  const score = scoreOf(column, state.metric, n);
  const text = answerText(column, n);
  const failure = failureOf(column, state.metric, n);
  const route = data.texts[columnOf(column).route[n]];
  return el("td", { role: "cell", "data-label": columnLabel(column) },
    el("span", { class: "said" }, text || el("em", {}, errorOf(column, n) ? "error" : "no answer")),
    el("span", { class: "scored" }, score === null ? el("small", {}, failure ? "\u26a0 unscored" : "not scored")
      : [el("i", { class: "meter", vars: { to: Math.max(0, score) } }), el("b", {}, fixed(score))],
      armOf(column) === "auto" ? el("small", {}, `by ${route}`) : null));
}

function showControls() {
  const options = columnKeys().map((column) => [column, columnLabel(column)]);
  const put = (place) => (column) => { change({ columns: state.columns.with(place, column) }); showControls(); };
  const values = labelValues();
  const sorted = state.label ? [...new Set(values[state.label].filter((value) => value !== null).map(String))].sort((one, other) => one.localeCompare(other, "en", { numeric: true })) : [];
  refill(byId("table-controls"),
    el("label", { class: "field grow" }, el("span", {}, "Search questions and answers"), el("input", { id: "search", type: "search", value: state.search, placeholder: "words, id", on: { input: (event) => change({ search: event.target.value }) } })),
    state.columns.map((column, place) => chooser(["First arm", "Second arm"][place] ?? `Arm ${place + 1}`, place > 1 ? [...options, ["", "\u2013 remove"]] : options, column,
      (next) => { if (next) put(place)(next); else { change({ columns: state.columns.toSpliced(place, 1) }); showControls(); } }, `column-${place}`)),
    state.columns.length < 5 ? chooser("Add an arm", [["", "\u2026"], ...options], "", (column) => { change({ columns: [...state.columns, column] }); showControls(); }, "column-add") : null,
    chooser("Score", summary().metrics.map(({ name, label }) => [name, label]), state.metric, (metric) => change({ metric }), "table-metric"),
    chooser("Sort", SORTS, state.sort, (sort) => change({ sort }), "table-sort"),
    chooser("Slice", [["", "none"], ...Object.keys(values).map((name) => [name, name.replaceAll("_", " ")])], state.label, (label) => { change({ label, value: "" }); showControls(); }, "table-label"),
    state.label ? chooser("Value", [["", "any"], ...sorted.map((value) => [value, value])], state.value, (value) => change({ value }), "table-value") : null);
}

function showFilters(counts) {
  refill(byId("filters"), ...Object.entries(FILTERS).map(([name, [label, words]]) =>
    el("button", { type: "button", id: `filter-${name}`, class: "chip", "aria-pressed": String(state.filter === name), "data-tip": words(state.columns.map(columnLabel)), on: { click: () => change({ filter: name }) } }, label, el("b", {}, ` ${whole(counts[name])}`))));
}

function showPager(pages) {
  const turn = (page) => () => { change({ page }); byId("count").scrollIntoView({ block: "start" }); };
  refill(byId("pager"), ...(pages === 1 ? [] : [
    el("button", { type: "button", id: "page-back", disabled: state.page === 0, on: { click: turn(state.page - 1) } }, "\u2190 Previous"),
    el("span", {}, `page ${state.page + 1} of ${pages}`),
    el("button", { type: "button", id: "page-next", disabled: state.page === pages - 1, on: { click: turn(state.page + 1) } }, "Next \u2192")]));
}

// Moves the focus by `step` rows, over the pages' ends too.
function moveRow(step) {
  const links = [...document.querySelectorAll("#table a.open")];
  const here = links.indexOf(document.activeElement);
  const next = here < 0 ? (step > 0 ? 0 : links.length - 1) : here + step;
  if (next >= 0 && next < links.length) links[next].focus();
  else {
    const page = state.page + step;
    if (page < 0 || page * PAGE >= found.length) return;
    change({ page });
    [...document.querySelectorAll("#table a.open")].at(step > 0 ? 0 : -1).focus();
  }
  document.activeElement.closest("tr").scrollIntoView({ block: "nearest" });
}
