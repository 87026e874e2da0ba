// The page as a whole: who is here, what is asked.

import * as answers from "./answers.js";
import * as api from "./api.js";
import { byId } from "./dom.js";
import * as documents from "./documents.js";
import * as reader from "./reader.js";
import { troubleBox } from "./trouble.js";

async function enter() {
  byId("trouble").replaceChildren();
  try {
    const me = await api.call("v1/me");
    byId("about").textContent = `${me.tenant} · ${me.model} · policy ${me.policy}${me.scope === "read" ? " · read only" : ""}`;
    byId("sign-out").hidden = !me.authentication;
    byId("sign-in").hidden = true;
    byId("key-dialog").close();
    documents.show(me.scope === "write");
  } catch (error) {
    if (!api.stopped(error) && error.status !== 401) byId("trouble").replaceChildren(troubleBox(error, enter));
  }
  document.documentElement.dataset.ready = "";
}

// Forgets the key and all that was shown for it.
function leave() {
  api.forget();
  if (!byId("reader").hidden) reader.close();
  answers.removeAll();
  documents.forget();
  byId("confirm").close("no");
  for (const id of ["confirm-what", "said"]) byId(id).textContent = "";
  byId("about").textContent = "";
  byId("sign-out").hidden = true;
  byId("sign-in").hidden = false;
}

function askForKey(why) {
  byId("key-trouble").textContent = why;
  byId("key").value = "";
  if (!byId("key-dialog").open) byId("key-dialog").showModal();
  byId("key").focus();
}

api.onRefusal(() => {
  const had = api.hasKey();
  leave();
  askForKey(had ? "This API key is not valid. Was all of it copied? It may also have been revoked." : "");
});

byId("sign-in").addEventListener("click", () => askForKey(""));
byId("sign-out").addEventListener("click", () => {
  leave();
  // Not where a key is refused: what was written may still be wanted then.
  for (const form of document.querySelectorAll("form")) form.reset();
  byId("sign-in").focus();
});
byId("key-cancel").addEventListener("click", () => byId("key-dialog").close());
byId("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const key = byId("key").value.trim();
  byId("key").value = "";
  if (!/^[\x21-\x7e]+$/.test(key)) {
    askForKey("This is no key: keys have letters, digits and signs of ASCII only.");
    return;
  }
  api.keep(key);
  enter();
});

byId("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  const question = byId("question").value.trim();
  if (!question) return;
  answers.ask({ question, arm: byId("arm").value || null, style: byId("style").value || null, documents: documents.chosenIds() });
  byId("question").select();
});
byId("question").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  byId("ask").requestSubmit();
});

documents.watch();
enter();
