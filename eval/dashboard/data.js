// The page's data, unpacked once and read through these functions.

let data;

async function unpack() {
  const binary = atob(byId("data").textContent);
  const packed = new Uint8Array(binary.length);
  for (let n = 0; n < binary.length; n++) packed[n] = binary.charCodeAt(n);
  const gunzip = new DecompressionStream("gzip");
  const sink = gunzip.writable.getWriter();
  // Awaited together: what is written waits to be read, and a damaged stream fails at either end.
  const [text] = await Promise.all([new Response(gunzip.readable).text(), sink.write(packed), sink.close()]);
  data = JSON.parse(text);
  for (const run of data.runs) {
    run.metric = new Map(run.summary.metrics.map((metric) => [metric.name, metric]));
  }
}

const run = () => data.runs[0];
const summary = () => run().summary;
const asked = () => data.questions.id.length;
const metricLabel = (name) => run().metric.get(name)?.label ?? name;
const mean = (arm, metric = summary().primary) => summary().matrix[arm]?.[metric] ?? null;

// A column is one arm of one run: "auto" of this run, "auto@before" of the run compared with.
const BEFORE = "@before";
const columnKeys = () => data.runs.flatMap(({ summary: { arms } }, n) => arms.map((arm) => (n ? arm + BEFORE : arm)));
const armOf = (column) => column.replace(BEFORE, "");
const runOf = (column) => data.runs[column.endsWith(BEFORE) ? 1 : 0];
const columnLabel = (column) => (data.runs.length === 1 ? column : `${armOf(column)} ${column.endsWith(BEFORE) ? "(before)" : "(after)"}`);
const columnOf = (column) => runOf(column).answers[armOf(column)];

const answerText = (column, n) => data.texts[columnOf(column).text[n]];
const errorOf = (column, n) => columnOf(column).error?.[n] ?? null;
const abstained = (column, n) => !answerText(column, n) && !errorOf(column, n);
function scoreOf(column, metric, n) {
  const permille = runOf(column).scores[armOf(column)].values[metric]?.[n] ?? null;
  return permille === null ? null : permille / 1000;
}
const failureOf = (column, metric, n) => runOf(column).scores[armOf(column)].failures[metric]?.[n] ?? null;
const totalOf = (column, n) => columnOf(column).timings?.total?.[n] ?? null;
const timed = (column, n) => totalOf(column, n) !== null;
const goldOf = (n) => data.questions.answers[n];

function answerOf(column, n) {
  const rows = columnOf(column);
  return {
    text: answerText(column, n),
    error: errorOf(column, n),
    confidence: rows.confidence[n],
    route: data.texts[rows.route[n]],
    reasons: data.lists[rows.reasons[n]].map((text) => data.texts[text]),
    citations: data.lists[rows.citations[n]].map(([document, start, end, score, verified]) => ({ document, start, end, score, verified })),
    contexts: data.lists[rows.contexts[n]].map(asSpan),
    adapter: rows.adapter?.[n] == null ? null : data.texts[rows.adapter[n]],
    tokens: data.lists[rows.tokens[n]],
    batch: rows.batch[n],
    timings: Object.fromEntries(Object.entries(rows.timings ?? {}).map(([stage, ms]) => [stage, ms[n]]).filter(([, ms]) => ms !== null)),
  };
}

const asSpan = ([document, start, end]) => ({ document, start, end });

// The paired difference `one` minus `other` as the summary has it, in either order; else null.
function difference(one, other, metric = summary().primary) {
  for (const row of summary().differences) {
    if (row.metric !== metric) continue;
    if (row.one === one && row.other === other) return row;
    if (row.one === other && row.other === one) {
      return { ...row, one, other, mean: -row.mean, low: -row.high, high: -row.low, wins: row.losses, losses: row.wins };
    }
  }
  return null;
}
