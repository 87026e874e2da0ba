// Documents: listed page by page, chosen to be asked about, added, deleted.

import { call, documentPath, stopped } from "./api.js";
import { button, byId, count, el, say, shortened } from "./dom.js";
import * as jobs from "./jobs.js";
import * as reader from "./reader.js";
import { troubleBox } from "./trouble.js";

const A_PAGE = 25;
const MOST_CHOSEN = 100;

const chosen = new Set(); // ids to ask about
let mayWrite = false;
let before = []; // `after` of the pages before this one
let after = null;
let next = null;
let loading = null;

export const chosenIds = () => [...chosen];

export function show(writes) {
  mayWrite = writes;
  byId("add").hidden = !mayWrite;
  list();
  jobs.resume(list).catch(trouble);
}

export function forget() {
  chosen.clear();
  [before, after, next] = [[], null, null];
  jobs.removeAll();
  drawChosen();
  for (const id of ["documents-list", "documents-trouble", "documents-count"]) byId(id).replaceChildren();
  for (const id of ["add", "pager"]) byId(id).hidden = true;
}

function trouble(error) {
  if (!stopped(error)) byId("documents-trouble").replaceChildren(troubleBox(error));
}

async function list() {
  loading?.abort();
  loading = new AbortController();
  const { signal } = loading;
  const from = after === null ? "" : `&after=${encodeURIComponent(after)}`;
  try {
    const page = await call(`v1/documents?limit=${A_PAGE}${from}`, { signal });
    const me = await call("v1/me", { signal });
    if (page.documents.length === 0 && before.length > 0) {
      back();
      return;
    }
    next = page.next;
    byId("documents-trouble").replaceChildren();
    byId("documents-count").textContent = me.documents ? `${me.documents.toLocaleString("en")} in all` : "";
    const empty = el("li", { class: "muted" }, mayWrite ? "There are none yet. Add one to ask about it." : "There are none yet.");
    draw(page.documents.length ? page.documents.map(row) : [empty]);
    byId("pager").hidden = before.length === 0 && next === null;
    byId("pager-back").disabled = before.length === 0;
    byId("pager-on").disabled = next === null;
  } catch (error) {
    trouble(error);
  }
}

// What had the focus in the list gets it again.
function draw(rows) {
  const { id } = document.activeElement;
  const inside = byId("documents-list").contains(document.activeElement);
  byId("documents-list").replaceChildren(...rows);
  if (inside) (byId(id) ?? byId("documents-title")).focus();
}

function row(shown, n) {
  const { id } = shown;
  const check = el("input", { type: "checkbox", id: `about-${n}`, checked: chosen.has(id), "aria-label": `Ask about ${id}` });
  check.dataset.about = id;
  check.addEventListener("change", () => {
    if (check.checked && chosen.size >= MOST_CHOSEN) {
      check.checked = false;
      say(`A question may be about ${MOST_CHOSEN} documents at most.`);
    } else if (check.checked) chosen.add(id);
    else chosen.delete(id);
    drawChosen();
  });
  const named = shown.title && shown.title !== id;
  const open = button("", () => reader.read(id, { back: open }), { class: "link wrap", id: `open-${n}` });
  open.append(shortened(named ? shown.title : id, 160));
  const what = [named && shortened(id, 160), count(shown.characters, "character"), shown.modified_at?.slice(0, 10)];
  return el("li", { class: "document" }, check,
    el("div", {}, open, el("small", { class: "muted wrap" }, what.filter(Boolean).join(" · "))),
    mayWrite && button("Delete", () => remove(id), { class: "quiet", id: `delete-${n}`, "aria-label": `Delete ${shortened(id, 160)}` }));
}

function drawChosen() {
  const chips = chosenIds().slice(0, MOST_CHOSEN).map((id) => button("", () => {
    chosen.delete(id);
    drawChosen();
    byId("question").focus();
  }, { class: "chip", "aria-label": `Do not ask about ${shortened(id, 160)} only` }));
  chips.forEach((chip, n) => chip.append(shortened(chosenIds()[n], 60), el("b", { "aria-hidden": "true" }, " ×")));
  byId("chosen").replaceChildren(...(chips.length ? [el("small", { class: "muted" }, "Only about"), ...chips] : []));
  for (const check of byId("documents-list").querySelectorAll("input")) check.checked = chosen.has(check.dataset.about);
}

function back() {
  after = before.pop() ?? null;
  list();
}

function confirmed(what) {
  const dialog = byId("confirm");
  byId("confirm-what").textContent = shortened(what, 400);
  return new Promise((told) => {
    byId("confirm-yes").onclick = () => dialog.close("yes");
    byId("confirm-no").onclick = () => dialog.close("no");
    dialog.returnValue = "no"; // what Escape leaves
    dialog.addEventListener("close", () => told(dialog.returnValue === "yes"), { once: true });
    dialog.showModal();
    byId("confirm-no").focus();
  });
}

async function remove(id) {
  if (!(await confirmed(id))) return;
  try {
    await call(documentPath(id), { method: "DELETE" });
    chosen.delete(id);
    drawChosen();
    if (reader.isOpen(id)) reader.close();
    say(`Deleted ${id}.`);
  } catch (error) {
    trouble(error);
    if (error.status !== 404) return;
  }
  await list();
}

async function sendAll(form, body) {
  const press = [...form.querySelectorAll("button, input, textarea")];
  for (const each of press) each.disabled = true;
  byId("documents-trouble").replaceChildren(el("p", { class: "muted" }, "Sending…"));
  try {
    await jobs.add(body, list);
    byId("documents-trouble").replaceChildren();
    form.reset();
  } catch (error) {
    trouble(error);
  } finally {
    for (const each of press) each.disabled = false;
  }
}

function sendFiles(files) {
  if (files.length === 0) return;
  const form = new FormData();
  for (const file of files) form.append("file", file);
  sendAll(byId("add-files"), { form });
}

export function watch() {
  byId("pager-back").addEventListener("click", back);
  byId("pager-on").addEventListener("click", () => {
    before.push(after);
    after = next;
    list();
  });
  byId("add-text").addEventListener("submit", (event) => {
    event.preventDefault();
    const id = byId("text-id").value.trim();
    sendAll(byId("add-text"), { json: { text: byId("text").value, ...(id && { id, title: id }) } });
  });
  byId("add-files").addEventListener("submit", (event) => event.preventDefault());
  byId("files").addEventListener("change", () => sendFiles(byId("files").files));
  const side = byId("side");
  const carries = (event) => mayWrite && event.dataTransfer?.types.includes("Files");
  // Anywhere else a dropped file would replace the page.
  document.addEventListener("dragover", (event) => event.preventDefault());
  document.addEventListener("drop", (event) => event.preventDefault());
  side.addEventListener("dragover", (event) => side.classList.toggle("over", Boolean(carries(event))));
  side.addEventListener("dragleave", () => side.classList.remove("over"));
  side.addEventListener("drop", (event) => {
    side.classList.remove("over");
    if (carries(event)) sendFiles(event.dataTransfer.files);
  });
}
