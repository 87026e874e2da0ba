// What arms and verdicts are called in plain words.

// [role, what it is]. "finds": must find the document itself, as in real use; "told": is told which.
const ARMS = {
  base: ["control", "The model alone, with no document anywhere: what it knows or guesses by itself."],
  context: ["given the right document", "The right document is handed over in the prompt. In real use nobody knows which one it is; this shows how well the model reads where search cannot go wrong."],
  adapter: ["told the document", "From weights: the model wears the right document's adapter; no document stands in the prompt."],
  "wrong-adapter": ["control", "The model wears another document's adapter. What the right adapter scores beyond this is knowledge of its document."],
  distilled: ["told the document", "From weights, learned slowly: as adapter, but trained on the document step by step instead of written by the hypernetwork in one pass."],
  retrieval: ["finds the document", "Searches all documents and answers from the best passages, which stand in the prompt."],
  both: ["finds the document", "Searches, reads the best passages and wears the adapter of the document found."],
  auto: ["router", "The router: picks adapter or retrieval for each question, checks the answer, and says why."],
};
// What a style makes of an arm, by the name that stands after its "+"; free wording has no name there.
const STYLES = {
  quote: "the answer is constrained to literal words of the documents, so it cannot make up any.",
  either: "the answer is literal words of the documents where some are found, else the model's own.",
};

const bare = (arm) => arm.split("+")[0];
const styleOf = (arm) => arm.split("+")[1] ?? "free";
const styled = (arm, style) => (style === "free" ? arm : `${arm}+${style}`);
const roleOf = (arm) => (ARMS[bare(arm)] ?? ["", ""])[0];
// How it is drawn: as a router, a control, a bound that nobody can use, or as usable.
const kindOf = (arm) => ({ control: "control", "given the right document": "bound", router: "router" })[roleOf(arm)] ?? "usable";
const usable = (arm) => ["usable", "router"].includes(kindOf(arm));

const GLOSSES = { f1: "F1 (word overlap with the expected answer, 1 = the same)" };
const metricWords = (name) => GLOSSES[name] ?? `${metricLabel(name)} (1 = best)`;

function describeArm(arm) {
  const what = (ARMS[bare(arm)] ?? ["", "An arm of this run."])[1];
  const style = STYLES[styleOf(arm)];
  return style ? `${what} With +${styleOf(arm)}, ${style}` : what;
}

const armTag = (arm) => el("code", ARMS[bare(arm)] ? { class: "arm", "data-tip": describeArm(arm) } : {}, arm);

// How sure a paired difference is: [words, class, whether the test agrees]. The same words everywhere.
function sureness({ low, high, mean, p_adjusted: p }) {
  if (low <= 0 && high >= 0) return ["no clear difference", "even", false];
  const word = mean > 0 ? "better" : "worse";
  if (p === undefined) return [word, word, false];
  return p < 0.05 ? [`clearly ${word}`, word, true] : [`perhaps ${word}`, word, false];
}
