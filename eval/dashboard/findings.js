// Which arm to use and why, in words made from the figures.

const byMean = (arms) => arms.filter((arm) => mean(arm)).toSorted((one, other) => mean(other).mean - mean(one).mean);
const medianTime = (arm) => summary().costs[arm]?.total_ms?.median; // milliseconds; undefined where not timed

// The arm to use, the router and the best other arm beside it, the control, and what an answer takes.
// Where the router and the best other arm are not clearly different, the faster is picked, or the
// other where they were not timed.
function findings() {
  const ranked = byMean(summary().arms);
  const candidates = ranked.filter(usable);
  const best = candidates[0] ?? ranked[0] ?? null;
  const router = ranked.includes("auto") ? "auto" : null;
  const rival = best === router ? candidates.find((arm) => arm !== router) ?? null : best;
  const versus = router && rival ? difference(router, rival) : null;
  const tied = versus ? sureness(versus)[1] === "even" : false;
  const pick = tied ? (medianTime(router) < medianTime(rival) ? router : rival) : best;
  const controls = ["adapter", "adapter+quote"].map((arm) => [arm, difference(arm, `wrong-${arm}`)]).filter(([, found]) => found);
  const fastest = candidates.filter(medianTime).toSorted((one, other) => medianTime(one) - medianTime(other))[0] ?? null;
  return { pick, router, rival, versus, tied, controls, fastest };
}

// Whether an arm that can be used is not clearly different from the pick, question by question.
function asGood(arm, pick) {
  const paired = usable(arm) && arm !== pick ? difference(arm, pick) : null;
  return paired !== null && sureness(paired)[1] === "even";
}

function headline({ pick, router, rival, versus, tied }) {
  if (pick === router) {
    if (!rival) return `Let the router \`${router}\` choose.`;
    return `Let the router \`${router}\` choose; \`${rival}\` is ${tied ? "no better, and slower" : "not as good"}.`;
  }
  if (!router) return `Use \`${pick}\`.`;
  if (tied) return `Use \`${pick}\`; the router \`${router}\` is no better.`;
  return `Use \`${pick}\`; the router \`${router}\` ${versus && sureness(versus)[2] ? "is not as good yet" : "may not be as good"}.`;
}

function reason({ pick, router, rival, tied }) {
  const score = mean(pick);
  const parts = [`\`${pick}\` scores ${fixed(score.mean)} in ${metricWords(summary().primary)} on ${count(summary().n, "question")} about ${count(summary().documents, "document")}; the 95 % interval is ${range(score)}.`];
  const second = pick === router ? rival : router;
  if (tied) {
    const times = medianTime(pick) < medianTime(second) ? `faster (${milliseconds(medianTime(pick))} against ${milliseconds(medianTime(second))})` : "";
    const merits = [pick === rival && "simpler", times].filter(Boolean).join(" and ");
    parts.push(`\`${second}\` is as good (${fixed(mean(second).mean)}), but \`${pick}\` is ${merits}.`);
  }
  const others = byMean(summary().arms).filter((arm) => usable(arm) && arm !== pick && !(tied && arm === second));
  const near = others.filter((arm) => (difference(arm, pick) ? asGood(arm, pick) : mean(arm).high >= score.mean));
  if (near.length) parts.push(`Too near to tell apart: ${near.map((arm) => `\`${arm}\` ${fixed(mean(arm).mean)}`).join(", ")}.`);
  else if (others.length) parts.push(`The next best, \`${others[0]}\`, gets ${fixed(mean(others[0]).mean)}.`);
  if (roleOf(pick) === "told the document") parts.push("Mind that this arm was told which document holds the answer; `auto` has to find it.");
  const [top] = byMean(summary().arms);
  if (kindOf(top) === "bound") parts.push(`(\`${top}\`, which nobody can use as it is given the right document, gets ${fixed(mean(top).mean)}.)`);
  return parts.join(" ");
}

// Of two runs: how an arm fares now.
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
