// What each arm scored, how sure the differences are, and what changed between two runs.

function showChange(metric = summary().primary) {
  if (!data.change) return;
  byId("change").hidden = false;
  byId("change-line").replaceChildren(...rich(`After is \`${run().path}\`, before is \`${data.runs[1].path}\`. Both asked the same questions; the table at the end shows each of them, before and after. An arm is called better or worse where its interval stays clear of zero; that is not corrected for the number of arms.`));
  refill(byId("change-controls"), chooser("Metric", summary().metrics.filter(({ name }) => data.change[name]).map(({ name, label }) => [name, label]), metric, showChange, "change-metric"));
  const rows = Object.entries(data.change[metric] ?? {});
  const reach = symmetric(rows.map(([, change]) => change));
  byId("change-table").replaceChildren(rows.length ? table("Before and after by arm",
    [th({}, "Arm"), th({ class: "num" }, "Before"), th({ class: "num" }, "After"), th({ class: "num" }, "After \u2212 before"), th({ class: "wide" }, scale(-reach, reach, signed)), th({}, "After is"), th({ class: "num" }, "Improved"), th({ class: "num" }, "Regressed")],
    rows.map(([arm, change]) => {
      const [word, kind] = sureness(change);
      return el("tr", {}, rowTh(armTag(arm)), num(fixed(change.before)), num(fixed(change.after)),
        num(el("b", {}, signed(change.mean)), el("small", {}, range(change, signed))),
        td(track(change, { min: -reach, max: reach, zero: 0, kind })), el("td", { class: `verdict ${kind}` }, word),
        num(change.improved), num(change.regressed));
    })) : el("p", { class: "muted" }, "The two runs have no arm and metric in common."));
}

function showMatrix() {
  const { arms, metrics: all, n, abstained: silent, errors } = summary();
  const metrics = all.filter(({ name }) => !sameForAll(name));
  const extremes = new Map(metrics.map(({ name }) => {
    const means = arms.map((arm) => mean(arm, name)?.mean).filter((value) => value !== undefined && value !== null);
    return [name, [Math.min(...means), Math.max(...means)]];
  }));
  const { pick } = findings();
  const failing = arms.some((arm) => errors[arm]);
  const [unanswerable, answerable] = [true, false].map((none) => [...Array(n).keys()].filter((place) => (goldOf(place).length === 0) === none));
  const silentOn = (arm, places) => num(`${places.filter((place) => abstained(arm, place)).length} of ${places.length}`);
  const refusals = !unanswerable.length ? null : [["Unanswerable declined", "Of the questions that no document answers, those that were rightly left unanswered."], ["Answerable refused", "Of the questions that have an answer, those that were left unanswered."]]
    .map(([label, tip]) => th({ class: "num" }, el("span", { class: "term", tabindex: 0, "data-tip": tip }, label)));
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
      th({ class: "num" }, el("span", { class: "term", tabindex: 0, "data-tip": "Questions to which the arm gave no answer." }, "No answer")), refusals, failing ? th({ class: "num" }, "Error") : null],
    arms.map((arm) => el("tr", { class: arm === pick && "best" }, el("th", { scope: "row", class: "pin" }, armTag(arm)), metrics.map((metric) => cell(arm, metric)), num(silent[arm] ?? 0), unanswerable.length ? [silentOn(arm, unanswerable), silentOn(arm, answerable)] : null, failing ? num(errors[arm] ?? 0) : null))));
  const same = all.filter(({ name }) => sameForAll(name));
  byId("same-note").hidden = !same.length;
  byId("same-note").replaceChildren("The same for every arm: ", ...same.flatMap(({ name, label, description }, place) => [place ? ", " : "",
    el("span", { class: "term", tabindex: 0, "data-tip": description }, label), ` ${fixed(mean(arms[0], name).mean)} (${range(mean(arms[0], name))})`]), ".");
  showJudgeNote();
}

// Whether a metric, other than the primary one, tells no arm from another.
function sameForAll(name) {
  const { arms, primary } = summary();
  const told = new Set(arms.map((arm) => JSON.stringify(mean(arm, name))));
  return name !== primary && arms.length > 1 && told.size === 1 && (mean(arms[0], name)?.mean ?? null) !== null;
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
    [th({}, "First \u2212 second arm"), th({ class: "num" }, "Difference"), th({ class: "wide" }, scale(-reach, reach, signed)), th({}, "First is"),
      th({}, el("span", { class: "term", tabindex: 0, "data-tip": `Questions on which the first arm scores higher ${stated}, as high, or lower.` }, "On how many questions")),
      th({ class: "num" }, el("span", { class: "term", tabindex: 0, "data-tip": `${test === "mcnemar" ? "Exact McNemar" : "Sign"} test, corrected by Holm for the pairs of this metric.` }, "p"))],
    rows.map((row) => {
      const [word, kind] = sureness(row);
      const total = row.wins + row.ties + row.losses;
      return el("tr", {}, rowTh(armTag(row.one), ` ${MINUS} `, armTag(row.other)),
        num(el("b", {}, signed(row.mean)), el("small", {}, range(row, signed))),
        td(track(row, { min: -reach, max: reach, zero: 0, kind })), el("td", { class: `verdict ${kind}` }, word),
        td(el("div", { class: "thirds", "aria-hidden": "true" }, [["better", row.wins], ["even", row.ties], ["worse", row.losses]].map(([name, part]) => el("i", { class: name, vars: { part: part / total } }))),
          el("small", {}, `${row.wins} better, ${count(row.ties, "tie")}, ${row.losses} worse`)),
        num(significance(row.p_adjusted)));
    })));
}
