// The page: one section at a time, asked for anew while it is looked at. The address says what is shown, and how.

import { element } from "./dom.js";
import { LISTS, List } from "./lists.js";
import { Overview } from "./overview.js";

const POLL_MS = 1500;
const ANSWER_MS = 10000;

const tabs = document.getElementById("tabs");
const main = document.getElementById("main");
const status = document.getElementById("status");

// A login in the address (http://user:password@…) is not allowed in what `fetch` is given.
const base = location.origin + location.pathname;

class State {
  constructor(parameters) {
    this.parameters = parameters;
  }

  get(key) {
    return this.parameters.get(key);
  }

  set(key, value) {
    if (value) this.parameters.set(key, value);
    else this.parameters.delete(key);
    history.replaceState(null, "", `#${current.name}?${this.parameters}`);
  }
}

let current = { name: "", view: null, abort: null };

const sections = [["overview", "Overview"], ...Object.entries(LISTS).map(([name, { title }]) => [name, title])];
const links = new Map(
  sections.map(([name, title]) => {
    const link = element("a", { href: `#${name}` }, title);
    tabs.append(link);
    return [name, link];
  }),
);

function show() {
  const [name, query] = location.hash.slice(1).split("?");
  const known = links.has(name) ? name : "overview";
  current.abort?.abort();
  current = { name: known, view: null, abort: new AbortController() };
  for (const [each, link] of links) {
    if (each === known) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  current.view = known === "overview" ? new Overview() : new List(known, new State(new URLSearchParams(query)));
  main.replaceChildren(current.view.element);
  const shown = current;
  if (shown.view.table) shown.view.table.onToggle = () => poll(shown);
  keepPolling(shown);
}

async function keepPolling(shown) {
  while (!shown.abort.signal.aborted) {
    if (!document.hidden) await poll(shown);
    await new Promise((wake) => setTimeout(wake, POLL_MS));
  }
}

async function poll(shown) {
  const get = async (path) => {
    const signal = AbortSignal.any([shown.abort.signal, AbortSignal.timeout(ANSWER_MS)]);
    const answer = await fetch(new URL(path, base), { signal });
    if (!answer.ok) throw new Error(answer.status === 401 ? "login needed: load the page again" : `${path}: ${answer.status}`);
    return answer.json();
  };
  try {
    await shown.view.poll(get);
    say("live", "good");
  } catch (error) {
    if (!shown.abort.signal.aborted) say(`not live: ${error.message}`, "bad");
  }
}

function say(words, className) {
  status.textContent = words;
  status.className = className;
  main.classList.toggle("stale", className === "bad");
}

addEventListener("hashchange", show);
show();
