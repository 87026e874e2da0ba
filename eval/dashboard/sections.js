// Confidence, slices, and what was run.

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
    el("p", { class: "figures" }, el("b", {}, calibrationVerdict(bins)), el("span", { class: "muted" }, ` ${count(n, "answer")}`)));
  const share = { x: ticks(0, 1), y: ticks(0, 1), xWrite: percent, yWrite: percent };
  const reliability = el("div");
  const risk = el("div");
  byId("reliability").replaceChildren(reliability, el("p", { class: "note" }, `Beside each dot: how many answers it stands for; hollow dots stand for fewer than ${FEWEST}, too few to tell. ECE ${fixed(ece)}: on average, confidence and the share of right answers lie ${fixed(100 * ece, 0)} percentage points apart; 0 is perfect.`));
  byId("risk").replaceChildren(risk, el("p", { class: "note" }, `AURC ${fixed(aurc)}: averaged over giving few answers to giving all, ${percent(aurc)} of those given are wrong; lower is better.`));
  drawn(reliability, (width) => {
    const { drawing, placeX, placeY } = axes(width, 300, { ...share, xLabel: "Confidence of the answers", yLabel: "Right", title: `Reliability of ${chosen}` });
    const most = Math.max(...bins.map((bin) => bin.n));
    drawing.append(line([[placeX(0), placeY(0)], [placeX(1), placeY(1)]], "diagonal"), line(bins.filter(telling).map((bin) => [placeX(bin.confidence), placeY(bin.accuracy)]), "curve"),
      ...bins.map((bin) => svg("text", { x: placeX(bin.confidence), y: placeY(bin.accuracy) - 12, "text-anchor": "middle" }, whole(bin.n))),
      ...bins.map((bin) => svg("circle", { class: telling(bin) ? "bin" : "bin few", cx: placeX(bin.confidence), cy: placeY(bin.accuracy), r: 3 + 6 * Math.sqrt(bin.n / most), "data-tip": `Confidence ${percent(bin.low)} to ${percent(bin.high)}: ${count(bin.n, "answer")}, ${percent(bin.accuracy)} right` })));
    return drawing;
  });
  drawn(risk, (width) => {
    const { drawing, placeX, placeY } = axes(width, 300, { ...share, xLabel: "Share of answers given, most confident first", yLabel: "Wrong among them", title: `Risk and coverage of ${chosen}` });
    drawing.append(line(risks.map((point) => [placeX(point.coverage), placeY(point.risk)]), "curve"));
    return drawing;
  });
}

const FEWEST = 5; // answers that a dot must stand for to tell something
const telling = (bin) => bin.n >= FEWEST;

// Whether confidence is too high or too low, with the group of answers that adds most to it.
function calibrationVerdict(bins) {
  const known = bins.filter(telling);
  if (!known.length) return "Too few answers to tell.";
  const sum = (value) => known.reduce((total, bin) => total + value(bin), 0);
  const excess = (bin) => bin.n * (bin.confidence - bin.accuracy);
  const gap = sum(excess) / sum(({ n }) => n);
  const even = Math.abs(gap) <= 0.05;
  const weight = (bin) => (even ? bin.n : excess(bin) * Math.sign(gap));
  const { confidence, accuracy } = known.toSorted((one, other) => weight(other) - weight(one))[0];
  return `${even ? "About right on average" : gap > 0 ? "Overconfident" : "Underconfident"}: answers of about ${percent(confidence)} confidence are right ${percent(accuracy)} of the time.`;
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
  const shown = all ? byMean(arms) : [...best.values()].filter((arm) => kindOf(arm) !== "control");
  refill(byId("slices-controls"),
    chooser("Split by", labels.map((name) => [name, name.replaceAll("_", " ")]), chosen, (next) => showSlices(next, all), "slice-label"),
    el("label", { class: "check" }, el("input", { id: "slice-all", type: "checkbox", checked: all, on: { change: (event) => showSlices(chosen, event.target.checked) } }), "all arms"),
    el("p", { class: "muted" }, `${metricLabel(summary().primary)} with 95 % intervals. Few questions make wide intervals: mind n.`));
  byId("slices-panels").replaceChildren(...Object.entries(slices[chosen]).toSorted(([, one], [, other]) => other.n - one.n).map(([value, slice]) =>
    el("div", { class: "panel" }, el("h3", {}, value, el("small", {}, `n = ${slice.n}`)),
      el("div", { class: "ranking", role: "table", "aria-label": value }, shown.filter((arm) => slice.arms[arm]).map((arm) => el("div", { class: "rank", role: "row" },
        el("div", { class: "who", role: "rowheader" }, armTag(arm)), el("div", { role: "cell" }, track(slice.arms[arm], { kind: kindOf(arm) })),
        el("div", { class: "value", role: "cell", "data-tip": range(slice.arms[arm]) }, fixed(slice.arms[arm].mean))))), scale(0, 1))));
}

function showFacts() {
  const { manifest, path } = run();
  const flat = (value) => Object.entries(value ?? {}).filter(([, item]) => item !== null && item !== "").map(([key, item]) => `${key.replaceAll("_", " ")}: ${typeof item === "object" ? JSON.stringify(item) : item}`).join("\n");
  const rows = [
    ["Folder", path], ["Made", manifest.created_at], ["Command", manifest.command], ["Data", `${manifest.data}\nSHA-256 ${manifest.data_sha256}`],
    ["Asked", `${count(manifest.questions, "question")} about ${count(manifest.documents, "document")}, ${manifest.timed} of them timed one by one; seed ${manifest.seed}`],
    ["Model", flat(manifest.model)], ["Adapters", `${manifest.adapters} made${manifest.warnings ? `; ${count(manifest.warnings, "document")} without` : ""}`],
    ["Evidence for judges", manifest.evidence], ["Judge", manifest.judge ? flat({ ...manifest.judge, consistency: null }) : "none"],
    ["Time", Object.entries(manifest.seconds).map(([phase, s]) => `${phase} ${Math.round(s)} s`).join(", ")], ["Peak memory", bytes(manifest.peak_memory_bytes)],
    ["Machine", flat(manifest.machine)], ["Versions", flat(manifest.versions)],
  ];
  byId("facts-list").replaceChildren(el("dl", { class: "facts" }, rows.filter(([, value]) => value).map(([name, value]) => [el("dt", {}, name), el("dd", {}, value)])),
    el("details", {}, el("summary", {}, "Policy"), el("pre", {}, JSON.stringify(manifest.policy, null, 2))),
    el("details", {}, el("summary", {}, "Settings"), el("pre", {}, JSON.stringify(manifest.config, null, 2))));
}
