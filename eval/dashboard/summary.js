// The first screen: which arm to use, four answers on cards, and how all arms rank.

function showVerdict() {
  const found = findings();
  const { pick, router, rival, versus, controls, fastest } = found;
  if (!pick) {
    byId("verdict-title").textContent = "No answer could be scored.";
    return;
  }
  const change = changeHeadline(router ?? pick);
  byId("kicker").textContent = change ? "What changed, and which arm to use" : "Which arm to use";
  byId("verdict-title").replaceChildren(...rich(change?.title ?? headline(found)));
  byId("because").replaceChildren(...rich([change?.reason, change && headline(found), reason(found)].filter(Boolean).join(" ")));
  byId("cards").replaceChildren(pickCard(pick), ...[
    router && routerCard(router, rival, versus),
    controls.length && controlCard(controls),
    fastest && costCard(pick, fastest),
  ].filter(Boolean));
}

const card = (kind, question, answer, figure, ...small) => el("article", { class: `card ${kind}` },
  el("h2", {}, question), el("p", { class: "answer" }, answer), figure, el("p", { class: "small" }, ...small));

function pickCard(pick) {
  const metric = mean(pick, "correct") ? "correct" : summary().primary;
  const score = mean(pick, metric);
  return card("even", "How well does it answer?", metric === "correct" ? `Right ${percent(score.mean)} of the time.` : `${metricLabel(metric)} ${fixed(score.mean)} of 1.`,
    el("div", {}, track(score), scale(0, 1)),
    ...rich(`\`${pick}\`: ${metricLabel(metric)} ${fixed(score.mean)} (${range(score)}). It said nothing ${count(summary().abstained[pick], "time")}.`));
}

function routerCard(router, rival, versus) {
  const quality = summary().regret.find((entry) => entry.price_per_second === 0);
  const closed = !quality ? "" : quality.closed?.mean > 0 ? `Of the gap between the best single arm and a perfect choice for every question it closes ${percent(quality.closed.mean)}.`
    : `A perfect choice for every question would score ${fixed(quality.oracle.mean)}.`;
  if (!rival) return card("even", "Is the router as good?", "There is no other arm to compare it with.", el("div", {}, track(mean(router)), scale(0, 1)), closed);
  if (!versus) return card("even", "Is the router as good?", `It scores ${fixed(mean(router).mean)}.`, el("div", {}, track(mean(router)), scale(0, 1)), `Not compared question by question with ${rival}. `, closed);
  const [word, kind] = sureness(versus);
  const reach = symmetric([versus]);
  const answer = kind === "even" ? "As good, but no better." : `${{ better: "Yes", worse: "No" }[kind]}, ${word}.`;
  return card({ better: "good", worse: "bad", even: "even" }[kind], "Is the router as good?", answer,
    el("div", {}, track(versus, { min: -reach, max: reach, zero: 0 }), scale(-reach, reach, signed)),
    ...rich(`\`${router}\` minus \`${rival}\`: ${signed(versus.mean)} (${range(versus, signed)}). ${closed}`));
}

// How much an adapter knows of its document: 2 where it beats the wrong one clearly by 0.1 and the
// bare model clearly, 1 where it only beats the wrong one, else 0.
function knowledge(arm, versusWrong) {
  if (sureness(versusWrong)[1] !== "better") return 0;
  const versusBase = difference(arm, arm.replace("adapter", "base"));
  const clearly = (found) => found.mean > 0 && sureness(found)[2];
  return versusWrong.mean >= 0.1 && clearly(versusWrong) && (!versusBase || clearly(versusBase)) ? 2 : 1;
}

function controlCard(controls) {
  const known = controls.map(([arm, found]) => knowledge(arm, found));
  const most = Math.max(...known);
  const reach = symmetric(controls.map(([, found]) => found));
  const style = (arm) => (styleOf(arm) === "quote" ? "quoting" : "free");
  const only = controls.filter((_, n) => known[n] === most);
  const where = most && only.length < controls.length ? { free: ", in free wording only", quoting: ", when quoting only" }[style(only[0][0])] : "";
  const told = (pairs) => pairs.filter(([, found]) => found).map(([arm, found]) => `${style(arm)} ${signed(found.mean)} (${range(found, signed)})`).join(", ");
  const base = told(controls.map(([arm]) => [arm, difference(arm, arm.replace("adapter", "base"))]));
  return card(["bad", "even", "good"][most], "Do adapters know their document?", `${["Not shown here", "A little", "Yes"][most]}${where}.`,
    el("div", { class: "tracks" }, controls.map(([arm, found]) => [el("small", {}, style(arm)), track(found, { min: -reach, max: reach, zero: 0 })]), el("span"), scale(-reach, reach, signed)),
    `Right minus wrong document's adapter: ${told(controls)}. At zero any adapter would do.`, base ? ` Against the model alone (base): ${base}.` : "");
}

function costCard(pick, fastest) {
  const time = medianTime(pick);
  const shown = [...new Set([pick, fastest])].filter(medianTime);
  const longest = Math.max(...shown.map(medianTime));
  const rows = shown.map((arm) => el("div", { class: "bar-row" },
    el("span", { class: "bar-name" }, arm), el("div", { class: "bar", vars: { to: medianTime(arm) / longest } }), el("b", {}, milliseconds(medianTime(arm)))));
  return card("even", "What does an answer cost?", time ? `${milliseconds(time)} a question` : "Not timed.",
    el("div", { class: "bars" }, rows),
    pick === fastest ? "The fastest too. " : `Median time; below it the fastest usable arm, which scores ${fixed(mean(fastest).mean)}. `, ...rich(paysWords()));
}

// From when the adapter pays against what one would use instead: retrieval, both of the policy's style.
function paysWords() {
  const style = run().manifest.policy.style ?? "quote";
  const pays = summary().break_even.find((row) => row.by === "time" && row.adapter_arm === styled("adapter", style) && row.other_arm === styled("retrieval", style));
  if (!pays) return "";
  const { adapter_arm: adapter, other_arm: other, questions } = pays;
  const paying = questions === null ? `never pays against \`${other}\`` : `pays from ${questionsWords(questions)} a document against \`${other}\``;
  const [ours, theirs] = [mean(adapter), mean(other)];
  const quality = ours && theirs ? `, ${ours.mean < theirs.mean && questions !== null ? "but" : "and"} it scores ${fixed(ours.mean)} against ${fixed(theirs.mean)}` : "";
  return `In time alone \`${adapter}\` ${paying}${quality}.`;
}

// The bound of a scale around zero that holds all intervals.
function symmetric(rows) {
  return ticks(0, Math.max(0.05, ...rows.map(({ low, high }) => Math.max(Math.abs(low), Math.abs(high)))), 3).at(-1);
}

function showRanking() {
  const ranked = byMean(summary().arms);
  const { pick } = findings();
  const remark = (arm) => (arm === pick ? el("span", { class: "badge" }, "use this") : asGood(arm, pick) ? el("span", { class: "badge" }, "as good") : el("small", {}, roleOf(arm)));
  byId("ranking-chart").replaceChildren(
    el("div", { class: "ranking", role: "table", "aria-label": "Arms by mean score" },
      ranked.map((arm) => el("div", { class: `rank ${arm === pick ? "best" : ""}`, role: "row" },
        el("div", { class: "who", role: "rowheader" }, armTag(arm), remark(arm)),
        el("div", { role: "cell" }, track(mean(arm), { kind: kindOf(arm) })),
        el("div", { class: "value", role: "cell" }, el("b", {}, fixed(mean(arm).mean)), el("small", {}, range(mean(arm))))))),
    el("div", { class: "rank-scale" }, scale(0, 1), el("p", { class: "axis" }, metricLabel(summary().primary))),
    el("h3", {}, "The metrics"),
    el("p", { class: "lead" }, "A gold answer is an expected one, a gold span the place where it stands in its document."),
    el("dl", { class: "legend two" }, summary().metrics.map((metric) => el("div", {},
      el("dt", {}, metric.label, metric.judge ? el("small", {}, "judge") : null), el("dd", {}, metric.description)))));
  showLegend();
}

function showLegend() {
  const present = [...new Set(summary().arms.map(bare))];
  const styles = Object.entries(STYLES).filter(([style]) => summary().arms.some((arm) => styleOf(arm) === style));
  byId("legend").replaceChildren(el("h3", {}, "The arms"),
    el("dl", { class: "legend" }, present.map((arm) => [
      el("dt", {}, el("code", {}, arm), el("small", {}, roleOf(arm))), el("dd", {}, (ARMS[arm] ?? ["", "An arm of this run."])[1])]),
      styles.map(([style, words]) => [el("dt", {}, el("code", {}, `+${style}`)), el("dd", {}, `As the arm before it, but ${words}`)])));
}
