// One question in full: what every arm answered, and where it stands in the documents.

let seen = null; // the column whose answer is marked in the document

function showDetail() {
  const dialog = byId("detail");
  const n = state.open === null ? -1 : data.questions.id.indexOf(state.open);
  if (n < 0) {
    state.open = null;
    if (dialog.open) dialog.close();
    return;
  }
  if (!columnKeys().includes(seen)) seen = state.columns[0];
  const labels = Object.entries(data.questions.labels ?? {}).filter(([, values]) => values[n]).map(([name, values]) => `${name.replaceAll("_", " ")}: ${values[n]}`);
  const golds = goldOf(n);
  const place = found.indexOf(n);
  const step = (way, text, key) => el("button", { type: "button", id: `detail-${way}`, disabled: !neighbour(way), "aria-label": `${text} question`, on: { click: () => stepDetail(way) } }, key);
  refill(dialog,
    el("header", {}, el("div", { class: "bar-top" }, el("small", {}, place < 0 ? state.open : `${state.open} \u00b7 ${place + 1} of ${found.length}`),
      step(-1, "Previous", "\u2190"), step(1, "Next", "\u2192"),
      el("a", { class: "button", href: addressOf({ open: state.open }), on: { click: copyLink } }, "Copy link"),
      el("button", { type: "button", id: "detail-close", on: { click: () => dialog.close() } }, "Close")),
      el("h2", { id: "detail-title" }, data.questions.question[n]),
      el("p", { class: "gold-line" }, golds.length ? ["Expected (gold) answer: ", el("b", {}, golds[0]), golds.length > 1 ? el("span", { class: "muted" }, `  or ${golds.slice(1).join(", ")}`) : null] : "No document says this: the right answer is none.",
        labels.map((label) => el("span", { class: "badge" }, label)))),
    el("div", { class: "sides" }, el("div", { id: "answers", class: "answers", role: "group", "aria-label": "Answers by arm" }, answersInOrder().map((column) => answerCard(column, n))), el("div", { id: "source", class: "source" })));
  if (!dialog.open) dialog.showModal();
  showSource(n);
}

const answersInOrder = () => [...new Set([...state.columns, ...columnKeys()])];
const neighbour = (way) => found[found.indexOf(data.questions.id.indexOf(state.open)) + way];
function stepDetail(way) {
  const next = neighbour(way);
  if (next === undefined) return;
  state.open = data.questions.id[next];
  writeAddress();
  showDetail();
}

async function copyLink(event) {
  event.preventDefault();
  history.replaceState(null, "", event.target.getAttribute("href"));
  try {
    await navigator.clipboard.writeText(location.href);
    event.target.textContent = "Copied";
  } catch {
    event.target.textContent = "It is in the address bar";
  }
}

function answerCard(column, n) {
  const answer = answerOf(column, n);
  const primary = scoreOf(column, state.metric, n);
  const chosen = column === seen;
  const pick = () => { seen = column; showDetail(); };
  return el("article", { class: `given ${chosen ? "chosen" : ""}` },
    el("button", { type: "button", id: `given-${column}`, class: "pick", autofocus: chosen, "aria-pressed": String(chosen), on: { click: pick } },
      el("code", {}, columnLabel(column)),
      primary === null ? el("small", {}, failureOf(column, state.metric, n) ? "\u26a0 unscored" : "not scored") : el("span", { class: "scored" }, el("i", { class: "meter", vars: { to: Math.max(0, primary) } }), el("b", {}, fixed(primary))),
      el("span", { class: "said" }, answer.text || el("em", {}, answer.error ? "error" : "no answer"))),
    answer.error ? el("p", { class: "warn" }, answer.error) : null,
    chosen ? moreOf(column, n, answer) : null);
}

function moreOf(column, n, answer) {
  const { metric: metrics, summary: { metrics: named } } = runOf(column);
  const scores = named.map(({ name }) => [metrics.get(name).label, scoreOf(column, name, n), failureOf(column, name, n)]);
  const times = Object.entries(answer.timings);
  const cited = answer.citations;
  return el("dl", { class: "more" },
    answer.reasons.length ? [el("dt", {}, "Route"), el("dd", {}, el("code", {}, answer.route), el("ul", {}, answer.reasons.map((reason) => el("li", {}, rich(reason)))))] : null,
    el("dt", {}, "Scores"), el("dd", { class: "pairs" }, scores.map(([label, score, failure]) => el("span", failure ? { "data-tip": failure, tabindex: 0, class: "warn" } : {}, `${label} `, el("b", {}, failure ? "\u26a0 unscored" : fixed(score))))),
    el("dt", {}, "Confidence"), el("dd", {}, fixed(answer.confidence)),
    times.length || answer.batch > 1 ? [el("dt", {}, "Time"), el("dd", { class: "pairs" }, answer.batch === 1 ? times.map(([stage, ms]) => el("span", {}, `${stage.replace("_", " ")} `, el("b", {}, milliseconds(ms)))) : `answered together with others (${answer.batch} at once), so not timed by itself`)] : null,
    el("dt", {}, "Tokens"), el("dd", {}, `${whole(answer.tokens[0])} read, ${whole(answer.tokens[1])} written${answer.adapter ? `; adapter ${answer.adapter} worn` : ""}`),
    cited.length ? [el("dt", {}, "Cited"), el("dd", {}, cited.map((span) => spanButton(span, `${span.verified}, ${fixed(span.score)}`)))] : null,
    answer.contexts.length ? [el("dt", {}, "In the prompt"), el("dd", {}, answer.contexts.map((span) => spanButton(span, "passage")))] : null);
}

const spanButton = (span, words) => el("button", { type: "button", class: "cite", on: { click: () => showSource(data.questions.id.indexOf(state.open), span) } },
  `${data.documents[span.document].title || data.documents[span.document].id}, ${whole(span.start)}${NONE}${whole(span.end)} `, el("small", {}, words));

// The document of `target`, else of the first citation, the gold answer or the first passage.
function showSource(n, target = null) {
  const { citations, contexts } = answerOf(seen, n);
  const gold = data.questions.spans[n].map(asSpan);
  const wanted = target ?? citations[0] ?? gold[0] ?? contexts[0] ?? null;
  const numbers = [...new Set([...citations, ...gold, ...contexts].map(({ document }) => document).concat(data.questions.documents[n]))];
  const number = wanted?.document ?? numbers[0];
  if (number === undefined) {
    byId("source").replaceChildren(el("p", { class: "muted" }, "No document says this, and none was read or cited."));
    return;
  }
  const { title, id, text } = data.documents[number];
  const kinds = [["gold", gold], ["cited", citations], ["read", contexts]];
  const marks = kinds.flatMap(([kind, spans]) => spans.filter(({ document }) => document === number).map(({ start, end }) => ({ kind, start, end })));
  const pane = el("div", { class: "text", id: "text", tabindex: 0, role: "region", "aria-label": `Text of ${title || id}` }, text ? markedText(text, marks) : el("p", { class: "muted" }, "The text of this document is not in the run."));
  byId("source").replaceChildren(
    el("div", { class: "tabs" }, numbers.map((other) => el("button", { type: "button", class: "chip", "aria-pressed": String(other === number), on: { click: () => showSource(n, { document: other, start: 0 }) } }, data.documents[other].title || data.documents[other].id))),
    el("p", { class: "key" }, el("span", {}, el("mark", { class: "gold" }, "gold answer")), el("span", {}, el("mark", { class: "cited" }, "cited by ", columnLabel(seen))), el("span", {}, el("mark", { class: "read" }, "stood in the prompt"))), pane);
  const inSight = wanted && [...pane.querySelectorAll("mark")].find((mark) => Number(mark.dataset.end) > wanted.start);
  pane.scrollTop = inSight ? Math.max(0, inSight.offsetTop - pane.clientHeight / 3) : 0;
}

// The text cut wherever a mark begins or ends; each piece wears the marks that cover it.
function markedText(text, marks) {
  const cuts = [...new Set([0, text.length, ...marks.flatMap(({ start, end }) => [start, end])])].filter((cut) => cut >= 0 && cut <= text.length).sort((one, other) => one - other);
  return cuts.slice(1).map((end, n) => {
    const start = cuts[n];
    const kinds = [...new Set(marks.filter((mark) => mark.start <= start && mark.end >= end).map(({ kind }) => kind))];
    const piece = text.slice(start, end);
    return kinds.length ? el("mark", { class: kinds.join(" "), "data-end": end }, piece) : piece;
  });
}
