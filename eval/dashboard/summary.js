// The first screen: which arm to use and why, in words made from the figures.

const byMean = (arms) => arms.filter((arm) => mean(arm)).toSorted((one, other) => mean(other).mean - mean(one).mean);

// Best arm that one could use, the router beside it, the control, and what an answer takes.
function findings() {
  const ranked = byMean(summary().arms);
  const candidates = ranked.filter(usable);
  const best = candidates[0] ?? ranked[0] ?? null;
  const router = ranked.includes("auto") ? "auto" : null;
  const versus = router && best && router !== best ? difference(router, best) : null;
  const controls = ["adapter", "adapter+quote"].map((arm) => [arm, difference(arm, `wrong-${arm}`)]).filter(([, found]) => found);
  const fastest = candidates.filter((arm) => summary().costs[arm]?.total_ms)
    .toSorted((one, other) => summary().costs[one].total_ms.median - summary().costs[other].total_ms.median)[0] ?? null;
  return { best, router, versus, controls, fastest };
}

function showVerdict() {
  const { best, router, versus, controls, fastest } = findings();
  if (!best) {
    byId("verdict-title").textContent = "No answer could be scored.";
    return;
  }
  const change = changeHeadline(router ?? best);
  byId("kicker").textContent = change ? "What changed, and which arm to use" : "Which arm to use";
  byId("verdict-title").replaceChildren(...rich(change?.title ?? headline(best, router, versus)));
  byId("because").replaceChildren(...rich([change?.reason, change && headline(best, router, versus), reason(best)].filter(Boolean).join(" ")));
  byId("cards").replaceChildren(bestCard(best), ...[
    router && routerCard(best, router, versus),
    controls.length && controlCard(controls),
    fastest && costCard(best, fastest),
  ].filter(Boolean));
}

function headline(best, router, versus) {
  if (best === router) return "Let the router choose: use `auto`.";
  if (router && versus && sureness(versus)[1] === "even") {
    return `Use \`${best}\`, or let the router \`auto\` choose: no clear difference.`;
  }
  if (!router) return `Use \`${best}\`.`;
  return `Use \`${best}\`; the router ${versus && !sureness(versus)[2] ? "may not be as good" : "is not as good yet"}.`;
}

// Of two runs: how the router (or the best arm) fares now.
function changeHeadline(arm) {
  const arms = data.change?.[summary().primary] ?? {};
  const change = arms[arm];
  if (!change) return null;
  const [words, kind] = sureness(change);
  const verdicts = Object.values(arms).map((each) => sureness(each)[1]);
  const times = (wanted) => verdicts.filter((verdict) => verdict === wanted).length;
  return {
    title: kind === "even" ? `No clear difference: \`${arm}\` answers about as before.` : `\`${arm}\` now answers ${words}.`,
    reason: `${metricLabel(summary().primary)} went from ${fixed(change.before)} to ${fixed(change.after)}: ${signed(change.mean)} (${range(change, signed)}), with ${count(change.improved, "question")} improved and ${change.regressed} regressed. Of ${count(verdicts.length, "arm")} in both runs, ${times("better")} answer better, ${times("worse")} worse.`,
  };
}

function reason(best) {
  const score = mean(best);
  const rivals = byMean(summary().arms).filter((arm) => usable(arm) && arm !== best && arm !== "auto");
  const close = rivals.filter((arm) => {
    const paired = difference(arm, best);
    return paired ? sureness(paired)[1] === "even" : mean(arm).high >= score.low;
  });
  const parts = [`Of the arms that can be used in practice it answers best: ${metricLabel(summary().primary)} ${fixed(score.mean)} of 1 (95 % interval ${range(score)}) on ${count(summary().n, "question")} about ${count(summary().documents, "document")}.`];
  if (rivals.length) {
    parts.push(close.length ? `Close enough that chance could have ordered them: ${close.map((arm) => `\`${arm}\` ${fixed(mean(arm).mean)}`).join(", ")}.`
      : `The next best, \`${rivals[0]}\`, gets ${fixed(mean(rivals[0]).mean)}.`);
  }
  if (roleOf(best) === "told the document") parts.push("Mind that this arm was told which document holds the answer; `auto` has to find it.");
  const top = byMean(summary().arms)[0];
  if (roleOf(top) === "upper bound") parts.push(`(\`${top}\`, which is handed the right document, gets ${fixed(mean(top).mean)}: the upper bound.)`);
  return parts.join(" ");
}

const card = (kind, question, answer, figure, ...small) => el("article", { class: `card ${kind}` },
  el("h2", {}, question), el("p", { class: "answer" }, answer), figure, el("p", { class: "small" }, ...small));

function bestCard(best) {
  const right = mean(best, "correct");
  return card("good", "Which arm answers best?", rich(`\`${best}\``), el("div", {}, track(mean(best)), scale(0, 1)),
    `${metricLabel(summary().primary)} ${fixed(mean(best).mean)} (${range(mean(best))}). `,
    right ? `Right in ${percent(right.mean)} of the questions. ` : "",
    `Said nothing ${count(summary().abstained[best], "time")}.`);
}

function routerCard(best, router, versus) {
  const quality = summary().regret.find((entry) => entry.price_per_second === 0);
  const closed = !quality ? "" : quality.closed?.mean > 0 ? `Of the gap between the best single arm and a perfect choice for every question it closes ${percent(quality.closed.mean)}.`
    : `A perfect choice for every question would score ${fixed(quality.oracle.mean)}.`;
  if (best === router) return card("good", "Is the router as good?", "It is the best.", el("div", {}, track(mean(router)), scale(0, 1)), closed);
  if (!versus) return card("even", "Is the router as good?", `It scores ${fixed(mean(router).mean)}.`, el("div", {}, track(mean(router)), scale(0, 1)), "Not compared question by question with the best arm. ", closed);
  const [word, kind] = sureness(versus);
  const reach = symmetric([versus]);
  const answer = kind === "even" ? "No clear difference." : `${{ better: "Yes", worse: "No" }[kind]}, ${word}.`;
  return card(kind === "worse" ? "bad" : "good", "Is the router as good?", answer,
    el("div", {}, track(versus, { min: -reach, max: reach, zero: 0 }), scale(-reach, reach, signed)),
    ...rich(`\`auto\` minus \`${best}\`: ${signed(versus.mean)} (${range(versus, signed)}). ${closed}`));
}

function controlCard(controls) {
  const shown = controls.filter(([, found]) => sureness(found)[1] === "better");
  const reach = symmetric(controls.map(([, found]) => found));
  const style = (arm) => (arm.endsWith(QUOTE) ? "when quoting" : "in free wording");
  const yes = shown.some(([, found]) => sureness(found)[2]) ? "Yes" : "Perhaps";
  const answer = !shown.length ? "Not shown here." : shown.length < controls.length ? `${yes}, ${style(shown[0][0])} only.`
    : shown.every(([, found]) => found.mean < 0.1) ? `${yes}, but little.` : `${yes}.`;
  return card(shown.length ? "good" : "bad", "Do adapters know their document?", answer,
    el("div", {}, controls.map(([, found]) => track(found, { min: -reach, max: reach, zero: 0 })), scale(-reach, reach, signed)),
    "Right minus wrong document's adapter: ", controls.map(([arm, found]) => `${style(arm)} ${signed(found.mean)} (${range(found, signed)})`).join(", "),
    ". At zero any adapter would do.");
}

function costCard(best, fastest) {
  const cost = summary().costs[best];
  const quick = summary().costs[fastest];
  const longest = Math.max(cost?.total_ms?.median ?? 0, quick.total_ms.median);
  const shown = [...new Set([best, fastest])].filter((arm) => summary().costs[arm]?.total_ms);
  const rows = shown.map((arm) => el("div", { class: "bar-row" },
    el("span", { class: "bar-name" }, arm), el("div", { class: "bar", vars: { to: summary().costs[arm].total_ms.median / longest } }), el("b", {}, milliseconds(summary().costs[arm].total_ms.median))));
  const pays = summary().break_even.filter((row) => row.by === "time" && row.questions !== null)
    .toSorted((one, other) => one.questions - other.questions)[0];
  return card("even", "What does an answer cost?", cost?.total_ms ? `${milliseconds(cost.total_ms.median)} a question` : "Not timed.",
    el("div", { class: "bars" }, rows),
    best === fastest ? "The fastest too. " : "Median time; below it the fastest usable arm. ",
    pays ? `In time alone, making an adapter pays from ${count(Math.ceil(pays.questions), "question")} a document.` : summary().break_even.length ? "Making an adapter never pays by time." : "");
}

// The bound of a scale around zero that holds all intervals.
function symmetric(rows) {
  return ticks(0, Math.max(0.05, ...rows.map(({ low, high }) => Math.max(Math.abs(low), Math.abs(high)))), 3).at(-1);
}

function showRanking() {
  const ranked = byMean(summary().arms);
  const { best } = findings();
  const kinds = { control: "control", "upper bound": "bound", router: "router" };
  byId("ranking-chart").replaceChildren(
    el("div", { class: "ranking", role: "table", "aria-label": "Arms by mean score" },
      ranked.map((arm) => el("div", { class: `rank ${arm === best ? "best" : ""}`, role: "row" },
        el("div", { class: "who", role: "rowheader" }, armTag(arm), arm === best ? el("span", { class: "badge" }, "use this") : el("small", {}, roleOf(arm))),
        el("div", { role: "cell" }, track(mean(arm), { kind: kinds[roleOf(arm)] ?? "" })),
        el("div", { class: "value", role: "cell" }, el("b", {}, fixed(mean(arm).mean)), el("small", {}, range(mean(arm))))))),
    el("div", { class: "rank-scale" }, scale(0, 1), el("p", { class: "axis" }, metricLabel(summary().primary))),
    el("h3", {}, "The metrics"),
    el("dl", { class: "legend two" }, summary().metrics.map((metric) => el("div", {},
      el("dt", {}, metric.label, metric.judge ? el("small", {}, "judge") : null), el("dd", {}, metric.description)))));
  showLegend();
}

function showLegend() {
  const present = [...new Set(summary().arms.map(bare))];
  const quotes = summary().arms.some((arm) => arm.endsWith(QUOTE));
  byId("legend").replaceChildren(el("h3", {}, "The arms"),
    el("dl", { class: "legend" }, present.map((arm) => [
      el("dt", {}, el("code", {}, arm), el("small", {}, roleOf(arm))), el("dd", {}, (ARMS[arm] ?? ["", "An arm of this run."])[1])]),
      quotes ? [el("dt", {}, el("code", {}, QUOTE)), el("dd", {}, `As the arm before it, but ${QUOTE_WORDS}`)] : null));
}
