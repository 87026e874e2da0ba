// Errors, shown where they happened.

import { button, el, rich } from "./dom.js";
import { Trouble } from "./api.js";

const SHOWN_ERRORS = 5;

// `again`, if given, is offered as a button, at the earliest when the service takes it again.
export function troubleBox(error, again = null) {
  if (!(error instanceof Trouble)) console.error(error);
  const { message, requestId, retryAfter, errors = [] } = error instanceof Trouble ? error : new Trouble(`This page failed: ${error.message}`);
  const box = el("div", { class: "trouble" }, el("p", { class: "wrap" }, rich(message)));
  if (errors.length > 1) {
    box.append(el("ul", {}, errors.slice(0, SHOWN_ERRORS).map(({ where, what }) => el("li", {}, el("code", {}, String(where)), ` ${what}`))));
  }
  if (retryAfter !== null && retryAfter !== undefined) box.append(el("p", {}, `Try again in ${retryAfter} s, from ${clock(retryAfter)}.`));
  if (requestId) box.append(el("p", { class: "small muted" }, "Request id ", el("code", {}, requestId)));
  if (again) {
    const press = button("Ask again", again, { disabled: Boolean(retryAfter) });
    if (retryAfter) setTimeout(() => { press.disabled = false; }, 1000 * retryAfter);
    box.append(press);
  }
  return box;
}

function clock(seconds) {
  return new Date(Date.now() + 1000 * seconds).toLocaleTimeString("en-GB");
}
