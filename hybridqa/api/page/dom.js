// Elements. Text is only ever set as text, never as markup: the page's policy forbids it, too.

export const byId = (id) => document.getElementById(id);

// Properties: `on` {event: handler}, any attribute. Those that are null or false are left out.
export function el(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (key === "on") for (const [event, handler] of Object.entries(value)) node.addEventListener(event, handler);
    else node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children.flat(2).filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

export const button = (text, press, properties = {}) => el("button", { type: "button", ...properties, on: { click: press } }, text);

// `words in backticks` become code.
export const rich = (text) => text.split("`").map((part, n) => (n % 2 ? el("code", {}, part) : part));

export function shortened(text, most) {
  if (text.length <= most) return text;
  const cut = /[\uD800-\uDBFF]$/.test(text.slice(0, most)) ? most - 1 : most;
  return `${text.slice(0, cut)}…`;
}

export const count = (n, one) => `${n.toLocaleString("en")} ${n === 1 ? one : `${one}s`}`;

export function milliseconds(ms) {
  if (ms >= 9950) return `${(ms / 1000).toFixed(0)} s`;
  return ms >= 995 ? `${(ms / 1000).toFixed(1)} s` : `${ms.toFixed(0)} ms`;
}

// Said to screen readers, shown to nobody.
export function say(text) {
  byId("said").textContent = shortened(text, 1000);
}

export const calm = () => (matchMedia("(prefers-reduced-motion: reduce)").matches ? "instant" : "smooth");
