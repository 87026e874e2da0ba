// The service: requests with the key, problems as errors, events as they come.

const KEY = "hybridqa-key";
let session = new AbortController();
let refused = () => {};

export const hasKey = () => sessionStorage.getItem(KEY) !== null;

// `told` is called when the service refuses the key, or wants one.
export function onRefusal(told) {
  refused = told;
}

export const keep = (key) => sessionStorage.setItem(KEY, key);

// Forgets the key, and whatever was asked with it.
export function forget() {
  sessionStorage.removeItem(KEY);
  session.abort();
  session = new AbortController();
}

export class Trouble extends Error {
  constructor(detail, { status = 0, requestId = "", retryAfter = null, errors = [] } = {}) {
    super(detail);
    Object.assign(this, { status, requestId, retryAfter, errors });
  }
}

export const stopped = (error) => error.name === "AbortError";

export function troubleOf(problem, retryAfter = null) {
  const requestId = String(problem.instance ?? "").replace("urn:hybridqa:request:", "");
  return new Trouble(String(problem.detail ?? problem.title ?? "Something went wrong."), {
    status: problem.status, requestId, retryAfter, errors: problem.errors ?? [],
  });
}

async function troubleIn(response) {
  const told = Number.parseInt(response.headers.get("Retry-After") ?? "", 10);
  const retryAfter = Number.isNaN(told) ? null : told;
  const problem = await response.json().catch(() => null);
  if (problem?.detail) return troubleOf(problem, retryAfter);
  const requestId = response.headers.get("X-Request-ID") ?? "";
  return new Trouble(`The service answered ${response.status} ${response.statusText}.`, { status: response.status, requestId, retryAfter });
}

async function send(path, { method = "GET", json, form, signal, accept = "application/json" } = {}) {
  const headers = { Accept: accept };
  const key = sessionStorage.getItem(KEY);
  if (key !== null) headers.Authorization = `Bearer ${key}`;
  if (json !== undefined) headers["Content-Type"] = "application/json";
  const signals = [session.signal, ...(signal ? [signal] : [])];
  const response = await fetch(path, {
    method, headers, signal: AbortSignal.any(signals), cache: "no-store", credentials: "same-origin", redirect: "error",
    body: form ?? (json === undefined ? undefined : JSON.stringify(json)),
  }).catch((error) => {
    if (stopped(error)) throw error;
    throw new Trouble("The service cannot be reached. Is it still running, and are you online?");
  });
  if (response.ok) return response;
  const trouble = await troubleIn(response);
  if (response.status === 401) refused();
  throw trouble;
}

export async function call(path, options) {
  return (await send(path, options)).json();
}

// Calls `heard(event, data)` for each server-sent event. (`EventSource` can neither POST nor send a key.)
export async function listen(path, options, heard) {
  const response = await send(path, { ...options, accept: "text/event-stream" });
  if (!response.body) return;
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read().catch((error) => {
      if (stopped(error)) throw error;
      throw new Trouble("The connection to the service broke.");
    });
    if (done) return;
    const blocks = (rest + value).split(/\r?\n\r?\n/);
    rest = blocks.pop();
    for (const block of blocks) {
      const [event, data] = parsed(block);
      if (data) heard(event, JSON.parse(data));
    }
  }
}

function parsed(block) {
  let event = "message";
  const data = [];
  for (const line of block.split(/\r?\n/)) {
    if (line.startsWith("event:")) event = line.slice(6).trim();
    else if (line.startsWith("data:")) data.push(line.slice(5).replace(/^ /, ""));
  }
  return [event, data.join("\n")];
}

// Slashes stay where they may; a part `..` would be taken out of the path, were its slash not hidden.
export function documentPath(id) {
  const parts = id.split("/");
  const dotted = parts.includes(".") || parts.includes("..");
  return `v1/documents/${dotted ? encodeURIComponent(id) : parts.map(encodeURIComponent).join("/")}`;
}
