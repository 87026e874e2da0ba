"use strict";
// Elements, numbers in words, and the tooltip. Text is only ever set as text, never as markup.

const SVG = "http://www.w3.org/2000/svg";
const byId = (id) => document.getElementById(id);

// Properties: `on` {event: handler}, `vars` {custom property: value}, `class`, any attribute.
// Attributes that are null or false are left out.
function fill(node, properties, children) {
  for (const [key, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (key === "on") for (const [event, handler] of Object.entries(value)) node.addEventListener(event, handler);
    else if (key === "vars") for (const [name, set] of Object.entries(value)) node.style.setProperty(`--${name}`, set);
    else node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children.flat(2).filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

const el = (tag, properties = {}, ...children) => fill(document.createElement(tag), properties, children);
const svg = (tag, properties = {}, ...children) => fill(document.createElementNS(SVG, tag), properties, children);

// `words in backticks` become code; an arm's name explains itself when pointed at.
function rich(text) {
  return text.split("`").map((part, n) => (n % 2 ? armTag(part) : part));
}

const MINUS = "\u2212";
const NONE = "\u2013";
const fixed = (value, digits = 2) => (value === null || value === undefined ? NONE : value.toFixed(digits).replace("-", MINUS));
function signed(value, digits = 2) {
  if (value === null || value === undefined) return NONE;
  const text = Math.abs(value).toFixed(digits);
  return Number(text) === 0 ? text : (value < 0 ? MINUS : "+") + text;
}
const range = ({ low, high }, write = fixed) => `${write(low)} to ${write(high)}`;
const percent = (share) => (share === null || share === undefined ? NONE : `${fixed(100 * share, 0)} %`);
const whole = (n) => (n === null || n === undefined ? NONE : fixed(n, 0).replace(/\B(?=(\d{3})+$)/g, ","));
const count = (n, one) => `${whole(n)} ${n === 1 ? one : `${one}s`}`;
// From how many questions something pays.
const questionsWords = (n) => (n < 9.95 ? `${fixed(n, 1)} questions` : count(Math.ceil(n), "question"));

function milliseconds(ms) {
  if (ms === null || ms === undefined) return NONE;
  if (ms >= 9950) return `${(ms / 1000).toFixed(0)} s`;
  return ms >= 995 ? `${(ms / 1000).toFixed(1)} s` : `${ms.toFixed(0)} ms`;
}

function bytes(n) {
  if (!n) return NONE;
  const power = Math.min(4, Math.floor(Math.log10(n) / 3));
  const value = n / 1000 ** power;
  return `${value.toFixed(value < 10 && power ? 1 : 0)} ${["B", "kB", "MB", "GB", "TB"][power]}`;
}

function significance(p) {
  if (p === null || p === undefined) return NONE;
  return p < 0.001 ? "< 0.001" : p.toFixed(3);
}

// A labelled <select>; `options` are [value, text] pairs.
function chooser(label, options, value, choose, id) {
  const select = el("select", { id, on: { change: () => choose(select.value) } },
    options.map(([key, text]) => el("option", { value: key, selected: key === value }, text)));
  return el("label", { class: "field" }, el("span", {}, label), select);
}

// Replaces what a holder has; what had the focus in it gets it again.
function refill(holder, ...children) {
  const { id } = document.activeElement;
  const inside = id && holder.contains(document.activeElement);
  holder.replaceChildren();
  fill(holder, {}, children);
  if (inside) byId(id)?.focus();
}

// Draws now and whenever the width changes: text in a chart keeps its size on every screen.
function drawn(holder, draw) {
  let width = 0;
  new ResizeObserver(() => {
    const now = Math.floor(holder.clientWidth);
    if (now && now !== width) holder.replaceChildren(draw((width = now)));
  }).observe(holder);
}

function watchTips() {
  const tip = byId("tip");
  let owner = null;
  const hide = () => {
    owner?.removeAttribute("aria-describedby");
    owner = null;
    tip.hidden = true;
  };
  const place = () => {
    const at = owner.getBoundingClientRect();
    const size = tip.getBoundingClientRect();
    const below = at.bottom + 6 + size.height < innerHeight;
    tip.style.left = `${Math.min(Math.max(8, at.left), innerWidth - size.width - 8)}px`;
    tip.style.top = `${below ? at.bottom + 6 : Math.max(4, at.top - size.height - 6)}px`;
  };
  const show = (event) => {
    const target = event.target.closest?.("[data-tip]");
    if (target === owner) return;
    hide();
    if (!target) return;
    owner = target;
    tip.textContent = target.dataset.tip;
    (target.closest("dialog") ?? document.body).append(tip);
    tip.hidden = false;
    target.setAttribute("aria-describedby", "tip");
    place();
  };
  for (const event of ["mouseover", "focusin"]) document.addEventListener(event, show);
  document.addEventListener("focusout", hide);
  // Focusing by keyboard scrolls; what is only pointed at is left behind.
  document.addEventListener("scroll", () => owner && (owner === document.activeElement ? place() : hide()), true);
  document.addEventListener("keydown", (event) => event.key === "Escape" && hide());
}

// Parts of tables.
const th = (properties, ...children) => el("th", { scope: "col", ...properties }, ...children);
const rowTh = (...children) => el("th", { scope: "row" }, ...children);
const td = (...children) => el("td", {}, ...children);
const num = (...children) => el("td", { class: "num" }, ...children);
const table = (caption, head, rows) => el("table", {}, el("caption", { class: "hidden" }, caption), el("thead", {}, el("tr", {}, head)), el("tbody", {}, rows));
