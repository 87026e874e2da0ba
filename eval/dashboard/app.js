// Starts the page: unpacks, draws, listens to the keyboard and the address.

const SHORT = { columns: "arms", metric: "metric", search: "find", filter: "show", label: "slice", value: "value", sort: "sort", page: "page", open: "open" };

let usualState;

// The address of the present state with `next` put in; what is as at the start is left out.
function addressOf(next) {
  const told = { ...state, ...next };
  const parts = new URLSearchParams();
  for (const [key, name] of Object.entries(SHORT)) {
    const value = key === "columns" ? told.columns.join(",") : told[key];
    const usual = key === "columns" ? usualState.columns.join(",") : usualState[key];
    if (value !== usual && value !== null && value !== "") parts.set(name, value);
  }
  return `#${parts}`;
}

const writeAddress = () => history.replaceState(null, "", addressOf({}) === "#" ? location.pathname + location.search : addressOf({}));

// Reads the address; what it says wrongly is passed over.
function readAddress() {
  const parts = new URLSearchParams(location.hash.slice(1));
  const told = (key) => parts.get(SHORT[key]);
  state = { ...usualState };
  const columns = (told("columns") ?? "").split(",").filter((column) => columnKeys().includes(column)).slice(0, 5);
  if (columns.length) state.columns = columns;
  if (run().metric.has(told("metric"))) state.metric = told("metric");
  if (Object.hasOwn(FILTERS, told("filter"))) state.filter = told("filter");
  if (SORTS.some(([name]) => name === told("sort"))) state.sort = told("sort");
  if (Object.hasOwn(labelValues(), told("label"))) state.label = told("label");
  state.value = (state.label && told("value")) || "";
  state.search = told("search") ?? "";
  state.page = Math.max(0, Number.parseInt(told("page") ?? "0", 10) || 0);
  state.open = told("open");
}

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const { target, key } = event;
  const typing = target.matches("input, select, textarea");
  if (key === "Escape" && target.id === "search") {
    change({ search: (target.value = "") });
    target.blur();
  }
  if (typing) return;
  const way = { j: 1, k: -1 }[key];
  if (byId("detail").open) {
    if (way) stepDetail(way);
    return;
  }
  const arrow = target.matches("a.open") ? { ArrowDown: 1, ArrowUp: -1 }[key] : undefined;
  if (key === "/") byId("search").focus();
  else if (way || arrow) moveRow(way ?? arrow);
  else return;
  event.preventDefault();
}

function onAddress() {
  if (state && location.hash && !location.hash.includes("=")) return; // a section's name
  readAddress();
  showControls();
  showTable();
  showDetail();
}

function onClose() {
  const opened = data.questions.id.indexOf(state.open);
  state.open = null;
  writeAddress();
  if (!byId(`row-${opened}`) && found.includes(opened)) change({ page: Math.floor(found.indexOf(opened) / PAGE) });
  byId(`row-${opened}`)?.querySelector("a").focus();
}

async function start() {
  await unpack();
  const { manifest, path } = run();
  const name = path.split(/[\\/]/).filter(Boolean).at(-1);
  byId("run-name").textContent = data.runs.length > 1 ? `${name} against ${data.runs[1].path.split(/[\\/]/).filter(Boolean).at(-1)}` : name;
  byId("run-line").textContent = [manifest.data, count(summary().n, "question"), count(summary().documents, "document"), manifest.model.name ?? "", manifest.created_at.slice(0, 10)].filter(Boolean).join(" \u00b7 ");
  if (data.home) {
    byId("home").href = data.home;
    byId("home").hidden = false;
  }
  byId("main").hidden = false;
  for (const show of [showVerdict, showChange, showRanking, showMatrix, () => showDifferences(), showScatter, showRegret, showCosts, () => showConfidence(), () => showSlices(), showFacts]) show();
  byId("nav").replaceChildren(...[...document.querySelectorAll("section[data-nav]:not([hidden])")].map((section) => el("a", { href: `#${section.id}` }, section.dataset.nav)));
  usualState = initialState();
  onAddress();
  watchTips();
  addEventListener("hashchange", onAddress);
  document.addEventListener("keydown", onKey);
  byId("detail").addEventListener("close", onClose);
  if (location.hash && !location.hash.includes("=")) byId(location.hash.slice(1))?.scrollIntoView();
  performance.mark("ready");
  document.documentElement.dataset.ready = "yes";
}

start().catch((error) => {
  byId("trouble").hidden = false;
  byId("trouble").textContent = typeof DecompressionStream === "undefined"
    ? "This browser is too old for this page: it needs Chrome 110, Firefox 115, Safari 16.4 or newer."
    : `This page is damaged: ${error.message}. Make it again with \`hybridqa eval dashboard\`.`;
  throw error;
});
