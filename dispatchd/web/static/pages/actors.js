// Every actor: as a table, as a tree; and what has failed, or was slow.

import { api, keepPolling } from "../api.js";
import { address, button, element, link, listing, renew } from "../dom.js";
import { duration, number, rate, time } from "../format.js";
import { PagedTable } from "../table.js";
import { AMBER_MS, failureList, kept, moodOf, nameOf, percent } from "./actor.js";

const REFRESH_MS = 1000;
const SPARK_POINTS = 30;

const count = (key, title, hint) => ({ key, title, hint, sort: key, numeric: true, show: (row) => number(row[key]) });
const lasting = (key, title, hint) => ({ key, title, hint, sort: key, numeric: true, show: (row) => kept(row[key]) });

const COLUMNS = [
  { key: "state", title: "State", hint: "sorted by how bad it is", sort: "state", show: (row) => (row.waits_for ? `waits for ${row.waits_for}` : row.state), mood: moodOf, dot: true },
  { key: "name", title: "Name", sort: "name", show: nameOf, link: (row) => address("actors", row.id) },
  { key: "kind", title: "Kind", sort: "kind", show: (row) => row.kind },
  count("mailbox_depth", "Mailbox", "messages that wait"),
  count("mailbox_peak", "Peak", "the most that waited in the last minute"),
  { key: "spark", title: "Lately", hint: "the depth of its mailbox while this page is open", show: () => "", spark: true },
  lasting("oldest_ms", "Oldest", "how long the oldest of them waits"),
  { ...lasting("wait_p50_ms", "Wait p50", "half of the messages of the last minute waited no longer"), hidden: true },
  lasting("wait_p99_ms", "Wait p99", "99 of 100 messages of the last minute waited no longer"),
  { key: "handled_per_second", title: "Handled /s", sort: "rate", numeric: true, show: (row) => rate(row.handled_per_second) },
  { ...count("handled", "Handled"), hidden: true },
  lasting("mean_ms", "Mean", "what a message of the last minute took"),
  lasting("p99_ms", "p99", "99 of 100 messages took no longer"),
  { ...lasting("max_ms", "Longest"), hidden: true },
  { key: "busy_percent", title: "Busy", hint: "time in handlers, with all that they waited for", sort: "busy", numeric: true, show: (row) => percent(row.busy_percent) },
  { key: "handling", title: "Handles now", sort: "handling_ms", show: (row) => (row.handling ? `${row.handling}, ${duration(row.handling_ms)}` : "–"), mood: (row) => (row.handling_ms > AMBER_MS ? moodOf(row) : "") },
  count("restarts", "Restarts"),
  count("failures", "Failures"),
  { key: "last_failure", title: "Last failure", show: (row) => row.last_failure?.error ?? "–" },
  { key: "age_ms", title: "Age", sort: "age_ms", numeric: true, show: (row) => kept(row.age_ms), hidden: true },
];

export class Actors {
  constructor(context) {
    const { state, live, signal } = context;
    const tabs = [["", "Table"], ["tree", "Tree"], ["failures", "Failures"], ["slow", "Slow handlers"]];
    const buttons = tabs.map(([name, title]) =>
      button(title, () => {
        location.hash = name ? `#actors?tab=${name}` : "#actors";
      }),
    );
    const tab = state.get("tab") ?? "";
    buttons.forEach((each, index) => each.setAttribute("aria-pressed", tabs[index][0] === tab));
    const made = { tree: treeTab, failures: failuresTab, slow: slowTab }[tab] ?? tableTab;
    const note = element("span", { className: "count", title: "how late the loop was the last time that it was looked at: what everybody waits" });
    live.listen("status", ({ lag_ms: lag, actors = {} }) => {
      note.textContent = `Loop lag ${duration(lag)} · ${number(actors.slow_handlers ?? 0)} slow handlers so far`;
    }, signal);
    this.element = element(
      "div",
      {},
      element("div", { className: "heading" }, element("h1", {}, "Actors"), element("div", { className: "segmented", role: "group", label: "View" }, ...buttons), element("span", { className: "grow" }), note),
      made(context),
    );
  }
}

function tableTab({ state, signal }) {
  const states = element("div", { className: "chips" });
  const kinds = element("div", { className: "chips" });
  const sparks = new Map();
  const table = new PagedTable({
    noun: "actors",
    columns: COLUMNS,
    sortedBy: "state",
    state,
    signal,
    isRegexAllowed: false,
    rowClass: (row) => ({ bad: "bad", odd: "odd" })[moodOf(row)] ?? "",
    ask: () => {
      const size = Number(state.get("size") || 100);
      const query = new URLSearchParams({ limit: size, offset: (Number(state.get("page") || 1) - 1) * size });
      for (const key of ["name", "kind", "state"]) if (state.get(key)) query.set(key, state.get(key));
      if (state.get("sort")) query.set("sort", state.get("sort"));
      if (state.get("sort")) query.set("order", state.get("down") === "1" ? "desc" : "asc");
      return `api/actors?${query}`;
    },
    page: ({ total, matched, offset, limit, items }) => ({
      items,
      total_count: total,
      filtered_count: matched,
      page: Math.floor(offset / limit) + 1,
      page_count: Math.max(1, Math.ceil(matched / limit)),
      page_size: limit,
    }),
    hear: ({ kinds: byKind, states: byState, items }) => {
      const choose = () => table.choose({ page: "" });
      renew(states, [byState, state.get("state")], () => chipsOf("state", byState, state, choose));
      renew(kinds, [byKind, state.get("kind")], () => chipsOf("kind", byKind, state, choose));
      for (const { id, mailbox_depth: depth } of items) {
        const points = sparks.get(id) ?? [];
        points.push(depth);
        sparks.set(id, points.slice(-SPARK_POINTS));
      }
      drawSparks(table, sparks);
    },
  });
  return element("div", { className: "actors" }, states, kinds, table.element);
}

function chipsOf(key, counts, state, chosen) {
  const shown = Object.entries(counts ?? {}).filter(([name, many]) => many || state.get(key) === name);
  return shown.map(([name, many]) => {
    const chip = button(`${name} ${number(many)}`, () => {
      state.set(key, state.get(key) === name ? "" : name);
      chosen();
    }, { className: "chip" });
    chip.setAttribute("aria-pressed", state.get(key) === name);
    chip.dataset.mood = key === "state" ? moodOf({ state: name }) : "";
    return chip;
  });
}

// One line of small bars for each row that is drawn; those of the others are forgotten with the page.
function drawSparks(table, sparks) {
  const place = table.shownColumns.findIndex((column) => column.spark);
  requestAnimationFrame(() => {
    for (const [id, { cells }] of table.drawn) if (place >= 0) cells[place].replaceChildren(spark(sparks.get(id) ?? []));
  });
}

function spark(points) {
  const made = element("canvas", { className: "spark", width: SPARK_POINTS * 2, height: 16 });
  const context = made.getContext("2d");
  const most = Math.max(1, ...points);
  context.fillStyle = getComputedStyle(document.documentElement).getPropertyValue("--a").trim();
  points.forEach((value, index) => {
    const height = Math.max(1, (value / most) * 15);
    context.fillRect((SPARK_POINTS - points.length + index) * 2, 16 - height, 1.5, height);
  });
  return made;
}

function treeTab({ signal }) {
  const holder = element("div", { className: "card" });
  const open = new Set();
  const closed = new Set();
  const deeper = new Map();
  let told = [];
  const branch = (node, depth) => {
    const more = deeper.get(node.id)?.children ?? node.children ?? [];
    const isOpen = !closed.has(node.id) && (open.has(node.id) || (depth < 1 && more.length > 0));
    const total = node.children_total ?? more.length;
    const toggle = total
      ? button(isOpen ? "▾" : "▸", async () => {
          (isOpen ? closed : open).add(node.id);
          (isOpen ? open : closed).delete(node.id);
          if (!isOpen && !more.length) await fetchBelow(node.id);
          draw();
        }, { className: "toggle", label: `${isOpen ? "Fold" : "Unfold"} ${nameOf(node)}` })
      : element("span", { className: "toggle" });
    const dot = element("span", { className: "dot" });
    dot.dataset.mood = moodOf(node);
    const notes = [node.mailbox_depth ? `mailbox ${number(node.mailbox_depth)}` : "", node.failures ? `${number(node.failures)} failures` : "", total ? `${number(total)} below` : ""].filter(Boolean).join(", ");
    const line = element("div", { className: "leaf" }, toggle, dot, element("small", {}, node.kind), link(nameOf(node), "actors", node.id), element("span", { className: "note" }, ["idle", "running"].includes(node.state) ? "" : node.state, notes ? ` ${notes}` : ""));
    const below = isOpen ? element("div", { className: "below" }, ...more.map((child) => branch(child, depth + 1)), total > more.length && more.length ? element("p", { className: "note" }, `${number(total - more.length)} more: filter the table for them.`) : null) : null;
    return element("div", {}, line, below);
  };
  const fetchBelow = async (id) => {
    const [found] = await api(`api/actors/tree?root=${id}&depth=1&limit=200`, { signal });
    if (found) deeper.set(id, found);
    return found;
  };
  const draw = () => renew(holder, [told, [...open], [...closed], [...deeper.values()]], () => told.map((node) => branch(node, 0)));
  keepPolling(signal, 2 * REFRESH_MS, async () => {
    told = await api("api/actors/tree?depth=2&limit=100", { signal });
    await Promise.all([...open].filter((id) => deeper.has(id)).map(fetchBelow));
    draw();
  });
  return holder;
}

function failuresTab({ signal }) {
  const holder = element("div", { className: "card" });
  keepPolling(signal, 2 * REFRESH_MS, async () => {
    const failures = await api("api/actors/failures?limit=200", { signal });
    renew(holder, failures, () => failureList(failures, true));
  });
  return holder;
}

function slowTab({ signal }) {
  const holder = element("div", { className: "card" });
  keepPolling(signal, 2 * REFRESH_MS, async () => {
    const slow = await api("api/actors/slow", { signal });
    renew(holder, slow, () => [
      listing(slow, [
        ["When", (each) => time(each.at * 1000)],
        ["Took", (each) => kept(each.took_ms), { numeric: true }],
        ["Actor", (each) => link(`${each.actor.kind} ${nameOf(each.actor)}`, "actors", each.actor.id)],
        ["Message", (each) => each.message_type],
      ], "No handler took more than 100 ms."),
    ]);
  });
  return holder;
}
