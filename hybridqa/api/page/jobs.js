// Documents being taken in: sent, followed until done.

import { call, listen, stopped, Trouble } from "./api.js";
import { button, byId, count, el, rich, say, shortened } from "./dom.js";
import { troubleBox } from "./trouble.js";

const KEPT = 6;
const SHOWN_RESULTS = 20;
const RETRIES = 5;
const FINISHED = new Set(["succeeded", "failed", "cancelled"]);

// Sends documents as JSON or as a form; `taken` is called whenever one is in. Resolves when they are accepted.
export async function add(body, taken) {
  const job = await call("v1/documents", { method: "POST", ...body });
  follow(job, taken);
}

// Follows what is still at work, e.g. after the page was loaded anew.
export async function resume(taken) {
  const { jobs } = await call("v1/jobs?limit=5");
  for (const job of jobs.filter(({ state }) => !FINISHED.has(state)).reverse()) follow(job, taken);
}

export function removeAll() {
  byId("jobs").replaceChildren();
}

async function follow(job, taken) {
  const row = el("div", { class: "job" });
  byId("jobs").prepend(row);
  for (const oldest of [...byId("jobs").children].slice(KEPT)) oldest.remove();
  let known = job;
  const heard = (told) => {
    const more = told.done > known.done || (FINISHED.has(told.state) && !FINISHED.has(known.state));
    known = told;
    draw(row, told);
    if (more) taken();
  };
  draw(row, job);
  for (let left = RETRIES; !FINISHED.has(known.state) && row.isConnected; left -= 1) {
    try {
      await listen(`v1/jobs/${job.id}/events`, {}, (event, data) => event === "job" && heard(data));
      if (!FINISHED.has(known.state)) throw new Trouble("The connection to the service broke.");
    } catch (error) {
      if (stopped(error)) return;
      if (left <= 1 || error.status === 401 || error.status === 404) {
        row.append(troubleBox(error));
        return;
      }
      await new Promise((later) => setTimeout(later, 2000));
    }
  }
  if (FINISHED.has(known.state)) say(heading(known));
}

function heading(job) {
  const failed = job.results.filter((result) => result.error).length;
  if (job.state === "queued") return `${count(job.total, "document")} waiting`;
  if (job.state === "running") return `Taking in ${job.current ?? "…"} (${job.done} of ${job.total} done)`;
  if (job.state === "cancelled") return `Cancelled after ${job.done} of ${job.total}`;
  if (failed === 0) return `${count(job.done, "document")} taken in`;
  return `${count(job.done - failed, "document")} taken in, ${failed} could not be`;
}

function draw(row, job) {
  const finished = FINISHED.has(job.state);
  const end = finished
    ? button("Hide", () => row.remove(), { class: "quiet" })
    : button("Cancel", () => call(`v1/jobs/${job.id}`, { method: "DELETE" }).catch((error) => row.append(troubleBox(error))), { class: "quiet" });
  const results = job.results.filter((result) => finished || result.error).slice(0, SHOWN_RESULTS).map((result) => {
    const told = result.error ? result.error.message : [result.status, result.adapter ? "with weights" : null, result.warning].filter(Boolean).join(", ");
    return el("li", { class: result.error ? "bad wrap" : "wrap" }, el("b", {}, shortened(result.id, 120)), " ", rich(shortened(told, 600)));
  });
  row.replaceChildren(
    el("div", { class: "head" }, el("p", { class: "wrap" }, shortened(heading(job), 300)), end),
    finished ? "" : el("progress", { max: job.total, value: job.done, "aria-label": "Documents done" }),
    job.error ? el("p", { class: "bad wrap" }, rich(job.error)) : "",
    results.length ? el("ul", { class: "small" }, results) : "",
  );
}
