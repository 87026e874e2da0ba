// The sections below the verdict: tables and charts of the summary.

const th = (properties, ...children) => el("th", { scope: "col", ...properties }, ...children);
const rowTh = (...children) => el("th", { scope: "row" }, ...children);
const td = (...children) => el("td", {}, ...children);
const num = (...children) => el("td", { class: "num" }, ...children);
const table = (caption, head, rows) => el("table", {}, el("caption", { class: "hidden" }, caption), el("thead", {}, el("tr", {}, head)), el("tbody", {}, rows));

function showChange(metric = summary().primary) {
  if (!data.change) return;
  byId("change").hidden = false;
  byId("change-line").replaceChildren(...rich(`After is \`${run().path}\`, before is \`${data.runs[1].path}\`. Both asked the same questions; the table at the end shows each of them, before and after. An arm is called better or worse where its interval stays clear of zero; that is not corrected for the number of arms.`));
  refill(byId("change-controls"), chooser("Metric", summary().metrics.filter(({ name }) => data.change[name]).map(({ name, label }) => [name, label]), metric, showChange, "change-metric"));
  const rows = Object.entries(data.change[metric] ?? {});
  const reach = symmetric(rows.map(([, change]) => change));
  byId("change-table").replaceChildren(rows.length ? table("Before and after by arm",
    [th({}, "Arm"), th({ class: "num" }, "Before"), th({ class: "num" }, "After"), th({ class: "num" }, "After \u2212 before"), th({ class: "wide" }, scale(-reach, reach, (n) => signed(n))), th({}, "After is"), th({ class: "num" }, "Improved"), th({ class: "num" }, "Regressed")],
    rows.map(([arm, change]) => {
      const [word, kind] = sureness(change);
      return el("tr", {}, rowTh(armTag(arm)), num(fixed(change.before)), num(fixed(change.after)),
        num(el("b", {}, signed(change.mean)), el("small", {}, range(change, signed))),
        td(track(change, { min: -reach, max: reach, zero: 0, kind })), el("td", { class: `verdict ${kind}` }, word),
        num(change.improved), num(change.regressed));
    })) : el("p", { class: "muted" }, "The two runs have no arm and metric in common."));
}

function showMatrix() {
  const { arms, metrics, n, abstained: silent, errors } = summary();
  const extremes = new Map(metrics.map(({ name }) => {
    const means = arms.map((arm) => mean(arm, name)?.mean).filter((value) => value !== undefined && value !== null);
    return [name, [Math.min(...means), Math.max(...means)]];
  }));
  const { best } = findings();
  const failing = arms.some((arm) => errors[arm]);
  const cell = (arm, { name, label }) => {
    const score = mean(arm, name);
    if (!score || score.mean === null) return el("td", { class: "num none" }, NONE, score?.failed ? el("small", { class: "warn" }, `\u26a0 ${score.failed} unscored`) : null);
    const [least, most] = extremes.get(name);
    const top = score.mean === most && most > least;
    return el("td", { class: "num shade", vars: { v: within(score.mean, least, most) }, "data-tip": `${arm}, ${label}: ${fixed(score.mean, 3)}, 95 % interval ${range(score, (x) => fixed(x, 3))}, ${count(score.n, "question")} scored` },
      top ? el("span", { class: "peak" }, "best") : null, el("b", {}, fixed(score.mean)),
      el("small", {}, `${fixed(score.low)}${NONE}${fixed(score.high)}`),
      score.n !== n ? el("small", {}, `n = ${score.n}`, score.failed ? el("span", { class: "warn" }, ` \u26a0 ${score.failed} unscored`) : null) : null);
  };
  byId("matrix").replaceChildren(table("Mean of every metric for every arm",
    [th({ class: "pin" }, "Arm"), metrics.map((metric) => th({ class: "num" }, el("span", { class: "term", tabindex: 0, "data-tip": metric.description }, metric.label), metric.judge ? el("small", {}, "judge") : null)),
      th({ class: "num" }, el("span", { class: "term", tabindex: 0, "data-tip": "Questions to which the arm gave no answer." }, "No answer")), failing ? th({ class: "num" }, "Failed") : null],
    arms.map((arm) => el("tr", { class: arm === best && "best" }, el("th", { scope: "row", class: "pin" }, armTag(arm)), metrics.map((metric) => cell(arm, metric)), num(silent[arm] ?? 0), failing ? num(errors[arm] ?? 0) : null))));
  showJudgeNote();
}

function showJudgeNote() {
  if (!summary().judge) return;
  byId("judge-note").hidden = false;
  byId("judge-note").replaceChildren(
    run().manifest.judge?.plumbing ? el("strong", { class: "badge bad" }, "plumbing, not judgement") : "",
    ...rich(` Metrics marked judge: ${summary().judge} Answers that it failed to score are counted as unscored, never as zero.`));
}

function showDifferences(metric = summary().primary, arm = "") {
  const { metrics, differences } = summary();
  const all = differences.filter((row) => row.metric === metric);
  const rows = all.filter((row) => !arm || row.one === arm || row.other === arm)
    .map((row) => (arm && row.other === arm ? difference(row.other, row.one, metric) : row));
  const involved = [...new Set(all.flatMap(({ one, other }) => [one, other]))];
  const reach = symmetric(all);
  refill(byId("differences-controls"),
    chooser("Metric", metrics.map(({ name, label }) => [name, label]), metric, (next) => showDifferences(next, arm), "difference-metric"),
    chooser("Pairs with", [["", "any arm"], ...involved.map((name) => [name, name])], arm, (next) => showDifferences(metric, next), "difference-arm"));
  if (!rows.length) {
    byId("differences-table").replaceChildren(el("p", { class: "muted" }, "No two arms of this run have this metric in common."));
    return;
  }
  const { margin, test } = rows[0];
  const stated = margin ? `by more than ${margin}` : "at all";
  byId("differences-table").replaceChildren(table(`Paired differences in ${metricLabel(metric)}`,
    [th({}, "First \u2212 second arm"), th({ class: "num" }, "Difference"), th({ class: "wide" }, scale(-reach, reach, (n) => signed(n))), th({}, "First is"),
      th({}, el("span", { class: "term", tabindex: 0, "data-tip": `Questions on which the first arm scores higher ${stated}, as high, or lower.` }, "Better / tie / worse")),
      th({ class: "num" }, el("span", { class: "term", tabindex: 0, "data-tip": `${test === "mcnemar" ? "Exact McNemar" : "Sign"} test, corrected by Holm for the pairs of this metric.` }, "p"))],
    rows.map((row) => {
      const [word, kind] = sureness(row);
      const total = row.wins + row.ties + row.losses;
      return el("tr", {}, rowTh(armTag(row.one), ` ${MINUS} `, armTag(row.other)),
        num(el("b", {}, signed(row.mean)), el("small", {}, range(row, signed))),
        td(track(row, { min: -reach, max: reach, zero: 0, kind })), el("td", { class: `verdict ${kind}` }, word),
        td(el("div", { class: "thirds", "aria-hidden": "true" }, [["better", row.wins], ["even", row.ties], ["worse", row.losses]].map(([name, part]) => el("i", { class: name, vars: { part: part / total } }))),
          el("small", {}, `${row.wins} / ${row.ties} / ${row.losses}`)),
        num(significance(row.p_adjusted)));
    })));
}

function showScatter() {
  const points = summary().arms.filter((arm) => summary().costs[arm]?.total_ms && mean(arm)).map((arm) => {
    const { median } = summary().costs[arm].total_ms;
    return { name: arm, x: median / 1000, y: mean(arm).mean, low: mean(arm).low, high: mean(arm).high, kind: roleOf(arm).split(" ")[0],
      tip: `${arm}: ${metricLabel(summary().primary)} ${fixed(mean(arm).mean)} (${range(mean(arm))}), ${milliseconds(median)}` };
  });
  if (!points.length) {
    byId("scatter").replaceChildren(el("p", { class: "muted" }, "No answers of this run were timed one by one."));
    return;
  }
  let highest = -1;
  const joined = points.filter(({ name }) => usable(name)).toSorted((one, other) => one.x - other.x || other.y - one.y)
    .filter(({ y }) => y > highest && ((highest = y), true));
  const key = [["router", "router"], ["usable", "usable arm"], ["upper", "upper bound"], ["control", "control"]];
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
      el("div", { class: "ranking", role: "table", "aria-label": entry.name }, row(armTag(best.arm), "best single arm", best, ""), row(armTag(router.arm), "router", router, "router"), row("oracle", "perfect choice", oracle, "bound")),
      scale(between.min, between.max),
      el("p", { class: "closed" }, closed ? [el("b", {}, `${percent(closed.mean)} of the gap closed`), ` (${range(closed, percent)}). `,
        closed.mean < 0 ? "Below zero: always using the best single arm would be better." : ""] : "There is no gap to close: one arm is best on every question."));
  }), routes.auto ? el("p", { class: "small" }, "The router answered from: ", Object.entries(routes.auto).map(([arm, times]) => [el("code", {}, arm), ` ${times}\u2003`])) : "");
}

function showCosts() {
  const arms = summary().arms.filter((arm) => summary().costs[arm]);
  const longest = Math.max(...arms.map((arm) => summary().costs[arm].total_ms?.median ?? 0));
  const timedCount = Math.max(0, ...arms.map((arm) => summary().costs[arm].timed));
  byId("costs").replaceChildren(table("Cost of an answer by arm",
    [th({}, "Arm"), th({ class: "wide" }, "Median time"), th({ class: "num" }, "95th percentile"), th({ class: "num" }, "First token"), th({}, "Of which"), th({ class: "num" }, "Tokens read"), th({ class: "num" }, "Tokens written"), th({ class: "num" }, "Adapter worn"), th({ class: "num" }, "KV cache")],
    arms.map((arm) => {
      const cost = summary().costs[arm];
      const stages = Object.entries(cost.stages_ms).filter(([stage, ms]) => !["total", "first_token"].includes(stage) && ms >= 0.5);
      return el("tr", {}, rowTh(armTag(arm)),
        td(cost.total_ms ? el("div", { class: "bar-row" }, el("div", { class: "bar", vars: { to: cost.total_ms.median / longest } }), el("b", {}, milliseconds(cost.total_ms.median))) : NONE),
        num(milliseconds(cost.total_ms?.p95)), num(milliseconds(cost.first_token_ms?.median)),
        el("td", { class: "stages" }, stages.map(([stage, ms]) => el("span", {}, `${stage} ${milliseconds(ms)}`))),
        num(whole(cost.prompt_tokens)), num(whole(cost.completion_tokens)), num(bytes(cost.adapter_bytes)), num(bytes(cost.kv_bytes)));
    })), el("p", { class: "note" }, timedCount ? `Times of ${count(timedCount, "question")} asked one by one on this machine; tokens and bytes are means of all.` : "No answers were timed one by one."));
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
    return [num(write(row.cost_once)), num(write(row.saved_per_question)), num(el("b", {}, row.questions === null ? "never" : count(Math.ceil(row.questions), "question")))];
  };
  byId("break-even").replaceChildren(all.length ? table("Questions a document from which an adapter pays",
    [th({}, "Adapter instead of reading"), th({ class: "num" }, "Time to take a document in"), th({ class: "num" }, "Time saved a question"), th({ class: "num" }, "Pays from"),
      th({ class: "num" }, "Tokens to take it in"), th({ class: "num" }, "Tokens saved a question"), th({ class: "num" }, "Pays from")],
    pairs.map(([adapter, other]) => el("tr", {}, rowTh(armTag(adapter), " instead of ", armTag(other)),
      ["time", "prompt tokens"].map((by) => cells(all.find((row) => row.adapter_arm === adapter && row.other_arm === other && row.by === by))))))
    : el("p", { class: "muted" }, "Needs an arm with an adapter and one without, both timed."));
}

const signedTime = (ms) => (ms < 0 ? MINUS : "") + milliseconds(Math.abs(ms));

function showConfidence(arm = null) {
  const arms = summary().arms.filter((name) => summary().calibration[name]?.n);
  if (!arms.length) {
    refill(byId("confidence-controls"), el("p", { class: "muted" }, "Needs the metric correct and answers with a confidence."));
    return;
  }
  const chosen = arm ?? (arms.includes("auto") ? "auto" : arms[0]);
  const { n, ece, aurc, bins, risk_coverage: risks } = summary().calibration[chosen];
  refill(byId("confidence-controls"),
    chooser("Arm", arms.map((name) => [name, name]), chosen, showConfidence, "confidence-arm"),
    el("p", { class: "figures" }, el("span", { class: "term", tabindex: 0, "data-tip": "Expected calibration error: how far confidence and share of right answers lie apart on average. 0 is perfect." }, "ECE"), el("b", {}, ` ${fixed(ece)} `),
      el("span", { class: "term", tabindex: 0, "data-tip": "Area under the curve on the right: the mean share of wrong answers over all coverages. Lower is better." }, "AURC"), el("b", {}, ` ${fixed(aurc)} `), `${count(n, "answer")}`));
  const share = { x: ticks(0, 1), y: ticks(0, 1), xWrite: percent, yWrite: percent };
  const reliability = el("div");
  const risk = el("div");
  byId("reliability").replaceChildren(reliability);
  byId("risk").replaceChildren(risk);
  drawn(reliability, (width) => {
    const { drawing, placeX, placeY } = axes(width, 300, { ...share, xLabel: "Confidence of the answers", yLabel: "Right", title: `Reliability of ${chosen}` });
    const filled = bins.filter((bin) => bin.n);
    const most = Math.max(...filled.map((bin) => bin.n));
    drawing.append(line([[placeX(0), placeY(0)], [placeX(1), placeY(1)]], "diagonal"), line(filled.map((bin) => [placeX(bin.confidence), placeY(bin.accuracy)]), "curve"),
      ...filled.map((bin) => svg("circle", { class: "bin", cx: placeX(bin.confidence), cy: placeY(bin.accuracy), r: 3 + 6 * Math.sqrt(bin.n / most), "data-tip": `Confidence ${percent(bin.low)} to ${percent(bin.high)}: ${count(bin.n, "answer")}, ${percent(bin.accuracy)} right` })));
    return drawing;
  });
  drawn(risk, (width) => {
    const { drawing, placeX, placeY } = axes(width, 300, { ...share, xLabel: "Share of answers given, most confident first", yLabel: "Wrong among them", title: `Risk and coverage of ${chosen}` });
    drawing.append(line(risks.map((point) => [placeX(point.coverage), placeY(point.risk)]), "curve"));
    return drawing;
  });
}

function showSlices(label = null, all = false) {
  const { slices, arms } = summary();
  const labels = Object.keys(slices);
  if (!labels.length) {
    byId("slices").hidden = true;
    return;
  }
  const chosen = label ?? labels.find((name) => /stability/.test(name)) ?? labels[0];
  const best = new Map();
  for (const arm of byMean(arms)) if (!best.has(bare(arm))) best.set(bare(arm), arm);
  const shown = all ? byMean(arms) : [...best.values()].filter((arm) => roleOf(arm) !== "control");
  refill(byId("slices-controls"),
    chooser("Split by", labels.map((name) => [name, name.replaceAll("_", " ")]), chosen, (next) => showSlices(next, all), "slice-label"),
    el("label", { class: "check" }, el("input", { id: "slice-all", type: "checkbox", checked: all, on: { change: (event) => showSlices(chosen, event.target.checked) } }), "all arms"),
    el("p", { class: "muted" }, `${metricLabel(summary().primary)} with 95 % intervals. Few questions make wide intervals: mind n.`));
  byId("slices-panels").replaceChildren(...Object.entries(slices[chosen]).toSorted(([, one], [, other]) => other.n - one.n).map(([value, slice]) =>
    el("div", { class: "panel" }, el("h3", {}, value, el("small", {}, `n = ${slice.n}`)),
      el("div", { class: "ranking", role: "table", "aria-label": value }, shown.filter((arm) => slice.arms[arm]).map((arm) => el("div", { class: "rank", role: "row" },
        el("div", { class: "who", role: "rowheader" }, armTag(arm)), el("div", { role: "cell" }, track(slice.arms[arm], { kind: roleOf(arm) === "router" ? "router" : roleOf(arm) === "upper bound" ? "bound" : "" })),
        el("div", { class: "value", role: "cell", "data-tip": range(slice.arms[arm]) }, fixed(slice.arms[arm].mean))))), scale(0, 1))));
}

function showFacts() {
  const { manifest, path } = run();
  const flat = (value) => Object.entries(value ?? {}).filter(([, item]) => item !== null && item !== "").map(([key, item]) => `${key.replaceAll("_", " ")}: ${typeof item === "object" ? JSON.stringify(item) : item}`).join("\n");
  const rows = [
    ["Folder", path], ["Made", manifest.created_at], ["Command", manifest.command], ["Data", `${manifest.data}\nSHA-256 ${manifest.data_sha256}`],
    ["Asked", `${count(manifest.questions, "question")} about ${count(manifest.documents, "document")}, ${manifest.timed} of them timed one by one${manifest.skipped ? `, ${manifest.skipped} left out` : ""}; seed ${manifest.seed}`],
    ["Model", flat(manifest.model)], ["Adapters", `${manifest.adapters} made${manifest.warnings ? `; ${count(manifest.warnings, "document")} without` : ""}`],
    ["Evidence for judges", manifest.evidence], ["Judge", manifest.judge ? flat({ ...manifest.judge, consistency: null }) : "none"],
    ["Time", Object.entries(manifest.seconds).map(([phase, s]) => `${phase} ${Math.round(s)} s`).join(", ")], ["Peak memory", bytes(manifest.peak_memory_bytes)],
    ["Machine", flat(manifest.machine)], ["Versions", flat(manifest.versions)],
  ];
  byId("facts-list").replaceChildren(el("dl", { class: "facts" }, rows.filter(([, value]) => value).map(([name, value]) => [el("dt", {}, name), el("dd", {}, value)])),
    el("details", {}, el("summary", {}, "Policy"), el("pre", {}, JSON.stringify(manifest.policy, null, 2))),
    el("details", {}, el("summary", {}, "Settings"), el("pre", {}, JSON.stringify(manifest.config, null, 2))));
}
