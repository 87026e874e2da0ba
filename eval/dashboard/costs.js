// What answers cost, what the router gains, and when an adapter has paid for itself.

function showScatter() {
  const points = summary().arms.filter((arm) => summary().costs[arm]?.total_ms && mean(arm)).map((arm) => {
    const { median } = summary().costs[arm].total_ms;
    return { name: arm, x: median / 1000, y: mean(arm).mean, low: mean(arm).low, high: mean(arm).high, kind: kindOf(arm),
      tip: `${arm}: ${metricLabel(summary().primary)} ${fixed(mean(arm).mean)} (${range(mean(arm))}), ${milliseconds(median)}` };
  });
  if (!points.length) {
    byId("scatter").replaceChildren(el("p", { class: "muted" }, "No answers of this run were timed one by one."));
    return;
  }
  let highest = -1;
  const joined = points.filter(({ name }) => usable(name)).toSorted((one, other) => one.x - other.x || other.y - one.y)
    .filter(({ y }) => y > highest && ((highest = y), true));
  const key = [["router", "router"], ["usable", "usable arm"], ["bound", "given the right document"], ["control", "control"]];
  const chart = el("div");
  byId("scatter").replaceChildren(chart, el("p", { class: "key" }, key.filter(([kind]) => kind === "usable" || points.some((point) => point.kind === kind)).map(([kind, name]) => el("span", { class: `mark ${kind}` }, name))));
  drawn(chart, (width) => scatter(width, points, { joined, xLabel: "Median time of an answer, seconds", yLabel: metricLabel(summary().primary), xWrite: (s) => String(s), yWrite: (y) => fixed(y, 1), title: "Quality against time by arm" }));
}

function showRegret() {
  const { regret, routes } = summary();
  if (!regret.length) {
    byId("regret").replaceChildren(el("p", { class: "muted" }, "Needs the arm auto and at least two arms for it to choose from."));
    return;
  }
  byId("regret").replaceChildren(...regret.map((entry) => {
    const { best_single: best, router, oracle, closed, price_per_second: price } = entry;
    const bounds = ticks(Math.min(0, best.low, router.low), Math.max(oracle.high, best.high, router.high));
    const between = { min: bounds[0], max: bounds.at(-1) };
    const row = (name, words, value, kind) => el("div", { class: "rank", role: "row" }, el("div", { class: "who", role: "rowheader" }, name, el("small", {}, words)),
      el("div", { role: "cell" }, track(value, { ...between, kind })), el("div", { class: "value", role: "cell" }, el("b", {}, fixed(value.mean)), el("small", {}, range(value))));
    return el("div", { class: "regret" },
      el("h4", {}, price ? `Quality at a cost: ${metricLabel(entry.metric)} minus ${price.toPrecision(2)} for each second` : `Quality alone: ${metricLabel(entry.metric)}`),
      el("div", { class: "ranking", role: "table", "aria-label": entry.name }, row(armTag(best.arm), "best single arm", best, ""), row(armTag(router.arm), "router", router, "router"), row(el("code", {}, "oracle"), "perfect choice", oracle, "bound")),
      scale(between.min, between.max),
      el("p", { class: "closed" }, ...closedWords(entry)));
  }), routes.auto ? el("p", { class: "small" }, "The router answered from: ", Object.entries(routes.auto).map(([arm, times]) => [el("code", {}, arm), ` ${times}\u2003`])) : "");
}

function closedWords({ closed, best_single: best }) {
  if (!closed) return ["There is no gap to close: one arm is best on every question."];
  const share = `${percent(closed.mean)}, 95 % interval ${range(closed, percent)}`;
  return closed.mean < 0 ? rich(`None of the gap closed: always using \`${best.arm}\` would be better (${share}).`)
    : [el("b", {}, `${percent(closed.mean)} of the gap closed`), ` (95 % interval ${range(closed, percent)}).`];
}

function showCosts() {
  const arms = summary().arms.filter((arm) => summary().costs[arm]);
  const longest = Math.max(...arms.map((arm) => summary().costs[arm].total_ms?.median ?? 0));
  const timedCount = Math.max(0, ...arms.map((arm) => summary().costs[arm].timed));
  byId("costs").replaceChildren(table("Cost of an answer by arm",
    [th({}, "Arm"), th({ class: "wide" }, "Median time"), th({ class: "num" }, "95th percentile"), th({ class: "num" }, "First token"), th({}, "Of which"), th({ class: "num" }, "Tokens read"), th({ class: "num" }, "Tokens written"), th({ class: "num" }, "Adapter worn"), th({ class: "num" }, "KV cache")],
    arms.map((arm) => {
      const cost = summary().costs[arm];
      const stages = Object.entries(cost.stages_ms).filter(([stage, ms]) => !["total", "first_token"].includes(stage) && ms >= 0.01 * (cost.total_ms?.median ?? 0));
      return el("tr", {}, rowTh(armTag(arm)),
        td(cost.total_ms ? el("div", { class: "bar-row" }, el("div", { class: "bar", vars: { to: cost.total_ms.median / longest } }), el("b", {}, milliseconds(cost.total_ms.median))) : NONE),
        num(milliseconds(cost.total_ms?.p95)), num(milliseconds(cost.first_token_ms?.median)),
        el("td", { class: "stages" }, stages.map(([stage, ms]) => el("span", {}, `${stage.replaceAll("_", " ")} ${milliseconds(ms)}`))),
        num(whole(cost.prompt_tokens)), num(whole(cost.completion_tokens)), num(bytes(cost.adapter_bytes)), num(bytes(cost.kv_bytes)));
    })), el("p", { class: "note" }, timedCount ? `Times are medians of ${count(timedCount, "question")} asked one by one on this machine.` : "No answers were timed one by one.",
    " Tokens, adapter worn and KV cache are means over all answers. Arms that wear an adapter search its document for the part to wear (\u201cretrieve\u201d). The KV cache is the memory that holds the text read."));
  showBreakEven();
  byId("assumptions").hidden = !summary().assumptions.length;
  byId("assumptions").querySelector("ul").replaceChildren(...summary().assumptions.map((text) => el("li", {}, rich(text))));
}

function showBreakEven() {
  const { break_even: all } = summary();
  const pairs = [...new Set(all.map((row) => `${row.adapter_arm} ${row.other_arm}`))].map((pair) => pair.split(" "));
  const cells = (row) => {
    if (!row) return [num(NONE), num(NONE), num(NONE)];
    const write = (value) => (row.by === "time" ? signedTime(value * 1000) : whole(value));
    return [num(write(row.cost_once)), num(write(row.saved_per_question)), num(el("b", {}, row.questions === null ? "never" : questionsWords(row.questions)))];
  };
  byId("break-even").replaceChildren(all.length ? table("Questions a document from which an adapter pays",
    [th({}, "Adapter instead of reading"), th({ class: "num" }, "Time to take a document in"), th({ class: "num" }, "Time saved a question"), th({ class: "num" }, "Pays from"),
      th({ class: "num" }, "Tokens to take it in"), th({ class: "num" }, "Tokens saved a question"), th({ class: "num" }, "Pays from")],
    pairs.map(([adapter, other]) => el("tr", {}, rowTh(armTag(adapter), el("span", { class: "muted" }, " instead of "), armTag(other)),
      ["time", "prompt tokens"].map((by) => cells(all.find((row) => row.adapter_arm === adapter && row.other_arm === other && row.by === by))))))
    : el("p", { class: "muted" }, "Needs an arm with an adapter and one without, both timed."),
    all.length ? el("p", { class: "note" }, "The time saved is the median of the savings question by question, so it is not the difference of the medians above.") : "");
}

const signedTime = (ms) => (ms < 0 ? MINUS : "") + milliseconds(Math.abs(ms));
