// The frame: who is logged in, which section is shown, and what every page says. The address says what is looked at, and how.

import { api } from "./api.js";
import { button, element, link, renew } from "./dom.js";
import { number } from "./format.js";
import { Live } from "./live.js";
import { ActorPage } from "./pages/actor.js";
import { Actors } from "./pages/actors.js";
import { Admin } from "./pages/admin.js";
import { Flow } from "./pages/flow.js";
import { List } from "./pages/lists.js";
import { Log } from "./pages/log.js";
import * as objects from "./pages/objects.js";
import { Overview } from "./pages/overview.js";
import { Topology } from "./pages/topology.js";

// name: [title, key, icon, the section itself, the page of one thing in it with so many names]
const FOR_MONITORING = new Set(["flow", "actors", "log"]);
const PAGES_FOR_MONITORING = new Set([...FOR_MONITORING, "connections", "channels"]);
const FOR_ADMINISTRATORS = new Set(["admin"]);
const SECTIONS = {
  overview: ["Overview", "o", "◎", (context) => new Overview(context)],
  connections: ["Connections", "c", "⇄", (context) => new List(context), objects.connectionPage, 1],
  channels: ["Channels", "h", "≋", (context) => new List(context), objects.channelPage, 1],
  exchanges: ["Exchanges", "e", "✳", (context) => new List(context), objects.exchangePage, 2],
  queues: ["Queues", "q", "☰", (context) => new List(context), objects.queuePage, 2],
  topology: ["Topology", "t", "⌥", (context) => new Topology(context)],
  flow: ["Flow", "f", "⇶", (context) => new Flow(context)],
  actors: ["Actors", "a", "●", (context) => new Actors(context), (context) => new ActorPage(context), 1],
  log: ["Log", "l", "≡", (context) => new Log(context)],
  admin: ["Admin", "m", "⚙", (context) => new Admin(context)],
};

const main = document.getElementById("main");
const side = document.getElementById("side");
const status = document.getElementById("status");
const banner = element("div", { className: "banner", id: "banner" });
const content = element("div", { id: "content" });

// What the address says behind its `?`: kept there, so that a page can be sent to somebody, or loaded again.
class State {
  constructor(section, query) {
    this.section = section;
    this.parameters = new URLSearchParams(query);
  }

  get(key) {
    return this.parameters.get(key);
  }

  set(key, value) {
    if (value) this.parameters.set(key, value);
    else this.parameters.delete(key);
    const query = `${this.parameters}`;
    history.replaceState(null, "", `#${this.section}${query ? `?${query}` : ""}`);
  }
}

function say(words, mood) {
  if (status.textContent !== words) status.textContent = words;
  status.className = mood;
  main.classList.toggle("stale", mood === "bad");
}

const live = new Live(say);
let shown = { abort: new AbortController() };
let isLoggedIn = false;
let isMonitoring = false;
let isAdministrator = false;

const links = new Map(
  Object.entries(SECTIONS).map(([name, [title, key, icon]]) => {
    const mark = element("span", { className: "mark" }, icon);
    mark.setAttribute("aria-hidden", "true");
    const made = element("a", { href: `#${name}`, title: `${title} (g ${key})` }, mark, element("span", {}, title));
    return [name, made];
  }),
);
document.getElementById("tabs").append(...links.values());
document.getElementById("skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});

function show() {
  if (!isLoggedIn) return;
  const [path, query = ""] = location.hash.slice(1).split("?");
  const [name, ...quoted] = path.split("/");
  let names = [];
  try {
    names = quoted.map(decodeURIComponent);
  } catch {
    // an address that somebody has typed
  }
  const known = SECTIONS[name] ? name : "overview";
  const [title, , , section, page, count] = SECTIONS[known];
  shown.abort.abort();
  const abort = new AbortController();
  const context = { live, signal: abort.signal, name: known, names, state: new State(SECTIONS[name] ? path : "overview", query) };
  for (const [each, made] of links) {
    if (each === known) made.setAttribute("aria-current", "page");
    else made.removeAttribute("aria-current");
  }
  const isPage = page && names.length === count;
  const needed = neededTag(known, isPage);
  const view = needed ? { element: element("p", { className: "empty" }, `This is for users with the tag ${needed}.`) } : (isPage ? page : section)(context);
  shown = { abort, view };
  document.title = `${names.at(-1) ?? title} · dispatchd`;
  content.replaceChildren(view.element);
  main.scrollTop = 0;
}

// The tag that somebody lacks who may not see this.
function neededTag(section, isPage) {
  if (FOR_ADMINISTRATORS.has(section) && !isAdministrator) return "administrator";
  return (isPage ? PAGES_FOR_MONITORING : FOR_MONITORING).has(section) && !isMonitoring ? "monitoring" : "";
}

// --- What is not as it should be, on every page

function showStatus(told) {
  if (told.error) return;
  const { alarms = [], actors = {} } = told;
  const held = actors.held ?? [];
  renew(banner, [alarms, held.map(({ id, state }) => [id, state]), actors.paused, actors.quarantined], () => [
    ...alarms.map(({ cause, detail }) => element("p", { className: "bad" }, element("strong", {}, `Alarm: ${cause}. `), `${detail}. Who publishes has to wait.`)),
    ...heldWords("quarantined", "bad", held, actors.quarantined),
    ...heldWords("paused", "odd", held, actors.paused),
  ]);
}

function heldWords(state, mood, held, count) {
  if (!count) return [];
  const named = held.filter((each) => each.state === state).slice(0, 5);
  const words = named.flatMap((each, index) => [index ? ", " : "", link(`${each.kind} ${each.name || "(default)"}`, "actors", each.id)]);
  const more = count > named.length ? ` and ${number(count - named.length)} more` : "";
  return [element("p", { className: mood }, element("strong", {}, state === "paused" ? "Paused: " : "In quarantine after failures: "), ...words, more, ".")];
}

// --- Logging in and out

function showLogin() {
  if (document.getElementById("login")) return;
  isLoggedIn = false;
  shown.abort.abort();
  live.stop();
  side.hidden = true;
  document.body.classList.add("out");
  const user = element("input", { type: "text", name: "username", autocomplete: "username", required: true, autocapitalize: "none", spellcheck: false });
  const password = element("input", { type: "password", name: "password", autocomplete: "current-password", required: true });
  const wrong = element("p", { className: "wrong", role: "alert" });
  const go = element("button", { type: "submit", className: "primary" }, "Log in");
  const form = element(
    "form",
    { id: "login", className: "card" },
    element("div", { className: "brand" }, element("img", { src: "static/icon.svg", alt: "", width: 32, height: 32 }), " dispatchd"),
    element("label", {}, element("span", {}, "User"), user),
    element("label", {}, element("span", {}, "Password"), password),
    wrong,
    go,
  );
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    go.disabled = true;
    try {
      await api("api/login", { method: "POST", body: { username: user.value, password: password.value } });
      await begin();
    } catch (error) {
      wrong.textContent = error.status === 401 ? "This is not the name and password of a user who may look here." : error.message;
      go.disabled = false;
      password.select();
    }
  });
  main.replaceChildren(form);
  user.focus();
}

async function begin() {
  const { name, tags } = await api("api/whoami");
  isLoggedIn = true;
  isAdministrator = tags.includes("administrator");
  isMonitoring = isAdministrator || tags.includes("monitoring");
  document.body.classList.toggle("only-looks", !isAdministrator);
  for (const [section, made] of links) made.hidden = neededTag(section, false) !== "";
  document.body.classList.remove("out");
  side.hidden = false;
  main.replaceChildren(banner, content);
  const themed = button(themeWords(), () => {
    theme.next();
    themed.textContent = themeWords();
  }, { title: "Light, dark, or as the system has it" });
  const out = button("Log out", async () => {
    await api("api/logout", { method: "POST" }).catch(() => null);
    showLogin();
  });
  document.getElementById("who").replaceChildren(element("span", { className: "user", title: "logged in" }, name), themed, out);
  live.start();
  show();
}

function themeWords() {
  return { auto: "◐ Auto", light: "☀ Light", dark: "☾ Dark" }[theme.get()];
}

// --- The keyboard: `/` filters, `g` and a letter goes to a section

let isGoing = 0;

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || !isLoggedIn || document.querySelector("dialog[open]")) return;
  if (event.target.closest("input:not([type=checkbox]), textarea, select")) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  if (event.key === "/") {
    event.preventDefault();
    main.querySelector("[data-role=filter]")?.focus();
  } else if (event.key === "g") {
    isGoing = Date.now();
  } else if (Date.now() - isGoing < 1500) {
    const found = Object.entries(SECTIONS).find(([, [, key]]) => key === event.key);
    if (found) location.hash = `#${found[0]}`;
    isGoing = 0;
  }
});

addEventListener("hashchange", show);
addEventListener("loginneeded", showLogin);
live.listen("status", showStatus);
begin().catch((error) => {
  if (error.status !== 401) {
    say(`not live: ${error.message}`, "bad");
    main.replaceChildren(element("p", { className: "empty" }, `${error.message}.`));
    setTimeout(() => location.reload(), 3000);
  }
});
