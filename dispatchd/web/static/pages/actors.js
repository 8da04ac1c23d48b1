// Every actor: as a table, as a tree, what failed, and a page for each. What can be done to one is asked for first.

import { api, keepPolling, url } from "../api.js";
import { ask, toast } from "../dialog.js";
import { address, button, card, element, facts, link, listing, renew } from "../dom.js";
import { bytes, duration, number, rate, text, time } from "../format.js";
import { PagedTable } from "../table.js";
import { exchangeName } from "./lists.js";

const REFRESH_MS = 1000;
const POINTS = 120;
const SPARK_POINTS = 30;
const AMBER_MS = 100;
const RED_MS = 1000;
const BAD = new Set(["quarantined", "dead"]);
const ODD = new Set(["paused", "restarting"]);

const moodOf = ({ state, handling_ms: handling, oldest_ms: oldest }) => {
  if (BAD.has(state) || handling > RED_MS) return "bad";
  if (ODD.has(state) || handling > AMBER_MS || oldest > RED_MS) return "odd";
  return state === "idle" ? "still" : "good";
};
const nameOf = ({ name }) => (name === "" ? "(default)" : name);
const percent = (value) => (typeof value === "number" ? `${value < 10 ? value.toFixed(1) : Math.round(value)} %` : "–");
const kept = (value) => (typeof value === "number" ? duration(value) : "–");

// A plain sentence on what an actor is about.
export function sentence(row) {
  if (row.state === "quarantined") return `In quarantine: it failed too often, the last time with ${row.last_failure?.error ?? "an unknown error"}. What it is told is refused.`;
  if (row.state === "paused") {
    const waits = row.mailbox_depth ? `${number(row.mailbox_depth)} messages wait` : "nothing waits";
    const end = row.resumes_in_ms === null || row.resumes_in_ms === undefined ? "until somebody resumes it" : `for ${duration(row.resumes_in_ms)} more`;
    return `Paused ${end}: ${waits}.`;
  }
  if (row.handling && row.handling_ms > AMBER_MS) return `It has been at ${row.handling} for ${duration(row.handling_ms)}.`;
  if (row.waits_for) return `It waits for ${row.waits_for}.`;
  if (row.oldest_ms > RED_MS) return `It is behind: its oldest message waits for ${duration(row.oldest_ms)}.`;
  if (row.last_failure) return `It goes on after a failure: ${row.last_failure.error}.`;
  return row.state === "idle" ? "It has nothing to do." : "It is at work.";
}

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
    const { state } = context;
    const tabs = [["", "Table"], ["tree", "Tree"], ["failures", "Failures"], ["slow", "Slow handlers"]];
    const buttons = tabs.map(([name, title]) =>
      button(title, () => {
        location.hash = name ? `#actors?tab=${name}` : "#actors";
      }),
    );
    const tab = state.get("tab") ?? "";
    buttons.forEach((each, index) => each.setAttribute("aria-pressed", tabs[index][0] === tab));
    const made = { tree: treeTab, failures: failuresTab, slow: slowTab }[tab] ?? tableTab;
    this.element = element(
      "div",
      {},
      element("div", { className: "heading" }, element("h1", {}, "Actors"), element("div", { className: "segmented", role: "group", label: "View" }, ...buttons)),
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

function failureList(failures, isNamed) {
  if (!failures.length) return [element("p", { className: "note" }, "Nothing has failed.")];
  return failures.map((failure) => {
    const who = isNamed && failure.actor ? [link(`${failure.actor.kind} ${nameOf(failure.actor)}`, "actors", failure.actor.id), " "] : [];
    const replay = button("Replay", () => act(`api/actors/failures/${failure.id}/replay`, "POST", {}, "The actor is told the message once more"), { disabled: !failure.can_replay, title: failure.no_replay_because ?? "tell the actor this message once more" });
    return element(
      "details",
      { className: "message" },
      element("summary", {}, time(failure.at * 1000), " ", ...who, element("strong", {}, failure.error)),
      element("p", {}, `While it handled ${text(failure.message_type)}, which was ${text(failure.fate)}: `, element("code", {}, text(failure.message))),
      element("pre", {}, failure.traceback),
      element("div", { className: "buttons" }, replay),
    );
  });
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

async function act(relative, method, body, done) {
  try {
    await api(relative, { method, body });
    toast(done);
  } catch (error) {
    toast(error.message, "bad");
  }
}

// --- One actor

const AMQP_PAGES = { connection: "connections", channel: "channels" };

export class ActorPage {
  constructor({ signal, names: [id] }) {
    Object.assign(this, { id: Number(id), signal, samples: [] });
    this.title = element("span", { className: "name" }, `#${id}`);
    this.kind = element("small", {}, "Actor");
    this.pill = element("span", { className: "pill" });
    this.sentence = element("p", { className: "sentence" });
    this.buttons = element("div", { className: "buttons" });
    this.wrong = element("p", { className: "wrong", role: "alert" });
    this.plots = [
      ["Mailbox", (row) => row.mailbox_depth, number],
      ["Handled per second", (row) => row.handled_per_second, rate],
      ["Oldest message, ms", (row) => row.oldest_ms, number],
      ["Handler p99, ms", (row) => row.p99_ms, rate],
    ].map(([title, value, show]) => new MiniPlot(title, value, show));
    this.holders = new Map(["Figures", "Messages by type", "Waiting", "What it does now", "What it tells of itself", "Below it", "Failures", "Trace"].map((title) => [title, element("div")]));
    this.element = element(
      "div",
      {},
      element("nav", { className: "crumbs", label: "Where" }, element("a", { href: "#actors" }, "Actors")),
      element("div", { className: "heading" }, element("h1", {}, this.kind, this.title), this.pill),
      this.sentence,
      this.buttons,
      this.wrong,
      element("div", { className: "cards four" }, ...this.plots.map((plot) => plot.element)),
      element("div", { className: "masonry objects" }, ...[...this.holders].map(([title, holder]) => card(title, holder))),
    );
    this.makeTrace();
    keepPolling(signal, REFRESH_MS, () => this.look());
  }

  async look() {
    const base = `api/actors/${this.id}`;
    try {
      const [row, mailbox, stack, failures] = await Promise.all([
        api(base, { signal: this.signal }),
        api(`${base}/mailbox?limit=20`, { signal: this.signal }).catch(() => null),
        api(`${base}/stack`, { signal: this.signal }).catch(() => null),
        api(`api/actors/failures?actor=${this.id}&limit=20`, { signal: this.signal }).catch(() => null),
      ]);
      if (!this.signal.aborted) this.draw(row, mailbox, stack, failures ?? row.kept_failures ?? []);
    } catch (error) {
      if (this.signal.aborted) return;
      this.wrong.textContent = error.status === 404 ? "This actor is gone." : error.message;
      if (error.status === 404) this.pill.textContent = "gone";
    }
  }

  draw(row, mailbox, stack, failures) {
    this.row = row;
    this.wrong.textContent = "";
    this.title.textContent = nameOf(row);
    this.kind.textContent = `${row.kind} actor #${row.id}`;
    this.pill.textContent = row.state;
    this.pill.dataset.mood = moodOf(row);
    this.sentence.textContent = sentence(row);
    this.samples.push(row);
    if (this.samples.length > POINTS) this.samples.shift();
    for (const plot of this.plots) plot.draw(this.samples);
    renew(this.buttons, [row.may_act, row.state, row.permits, row.can_stop, row.is_essential], () => this.makeButtons(row));
    this.fill("Figures", row, () => this.figures(row));
    this.fill("Messages by type", row.types, () => [listing(row.types ?? [], [
      ["Type", (each) => each.type],
      ["Count", (each) => number(each.count), { numeric: true }],
      ["Mean", (each) => kept(each.mean_ms), { numeric: true }],
      ["Longest", (each) => kept(each.max_ms), { numeric: true }],
      ["In all", (each) => kept(each.time_ms), { numeric: true }],
      ["Failures", (each) => number(each.failures), { numeric: true }],
    ], "It handled nothing in the last minute.")]);
    if (mailbox) this.fill("Waiting", mailbox, () => this.waiting(row, mailbox));
    if (stack) this.fill("What it does now", [stack.stack, stack.note], () => [stack.note ? element("p", { className: "note" }, stack.note) : null, stack.stack?.length ? element("pre", {}, stack.stack.join("")) : null]);
    const { id, name, mailbox_depth, actor_state, late, ...told } = row.snapshot ?? {};
    this.fill("What it tells of itself", [late, told], () => (late ? [element("p", { className: "note" }, `It ${late}.`)] : [facts(told)]));
    this.fill("Below it", [row.children, row.children_total], () => [
      listing(row.children ?? [], [
        ["Kind", (each) => each.kind],
        ["Name", (each) => link(nameOf(each), "actors", each.id)],
        ["State", (each) => each.state],
      ], "Nobody."),
      row.children_total > (row.children ?? []).length ? element("p", { className: "note" }, `${number(row.children_total)} in all.`) : null,
    ]);
    this.fill("Failures", failures, () => failureList(failures, false));
  }

  fill(title, data, make) {
    renew(this.holders.get(title), data, make);
  }

  figures(row) {
    const parent = row.parent === null || row.parent === undefined ? null : link(row.parent_name || `#${row.parent}`, "actors", row.parent);
    return [facts([
      ["in AMQP", this.amqpLink(row)],
      ["parent", parent],
      ["mailbox now / peak", `${number(row.mailbox_depth)} / ${number(row.mailbox_peak)}`],
      ["oldest message", kept(row.oldest_ms)],
      ["wait p50 / p99", `${kept(row.wait_p50_ms)} / ${kept(row.wait_p99_ms)}`],
      ["handled", `${number(row.handled)}, ${rate(row.handled_per_second)}/s`],
      ["handler mean / p99 / longest", `${kept(row.mean_ms)} / ${kept(row.p99_ms)} / ${kept(row.max_ms)}`],
      ["busy", percent(row.busy_percent)],
      ["handles now", row.handling ? `${row.handling}, for ${duration(row.handling_ms)}` : null],
      ["restarts", number(row.restarts)],
      ["failures", number(row.failures)],
      ["age", kept(row.age_ms)],
    ])];
  }

  amqpLink(row) {
    const vhost = row.snapshot?.vhost ?? row.parent_name;
    if (AMQP_PAGES[row.kind]) return link(row.name, AMQP_PAGES[row.kind], row.name);
    if (row.kind === "queue") return link(row.name, "queues", vhost, row.name);
    if (row.kind === "exchange") return link(nameOf(row), "exchanges", vhost, exchangeName(row.name));
    return undefined;
  }

  waiting(row, { total, items }) {
    return [
      listing(items, [
        ["", (each) => number(each.position), { numeric: true }],
        ["Type", (each) => each.type],
        ["Waits for", (each) => kept(each.age_ms), { numeric: true }],
        ["Messages", (each) => (each.count === null ? "–" : number(each.count)), { numeric: true }],
        ["Size", (each) => (each.octets === null ? "–" : bytes(each.octets)), { numeric: true }],
        ["What", (each) => each.summary],
      ], "Its mailbox is empty."),
      total > items.length ? element("p", { className: "note" }, `${number(total)} in all.`) : null,
      row.may_act && row.state === "paused" && items.length
        ? element("div", { className: "buttons" }, button("Drop the oldest…", () => this.dropHead(items[0]), { className: "danger" }))
        : null,
    ];
  }

  makeButtons(row) {
    if (!row.may_act) return [element("p", { className: "note" }, "Actions are off, or not for you.")];
    const isPaused = row.permits !== null && row.permits !== undefined;
    const made = isPaused
      ? [
          button("Resume", () => this.put("resume", {}, "It goes on"), { className: "primary" }),
          button("Step one message", () => (row.is_essential ? this.confirm("step", "Step", "Others can't go on without it.", { n: 1 }) : this.put("step", { n: 1 }, "One message may pass"))),
        ]
      : [button("Pause…", () => pauseActor(row))];
    if (row.state === "quarantined") made.push(button("Release", () => this.put("release", {}, "It is out of quarantine"), { className: "primary" }));
    else made.push(button("Quarantine…", () => this.confirm("quarantine", "Quarantine", "It takes leave of its consumers, and refuses what it is told until it is released."), { className: "danger" }));
    made.push(button("Restart…", () => this.confirm("restart", "Restart", "It gets a new state, under the same name and with the same mailbox. No message is lost."), { className: "danger" }));
    if (row.can_stop) made.push(button("Stop…", () => this.confirm("stop", "Stop", "It is closed for its client."), { className: "danger" }));
    return made;
  }

  async put(action, body, done) {
    await act(`api/actors/${this.id}/${action}`, "PUT", body, done);
    await this.look();
  }

  confirm(action, title, words, body = {}) {
    const { name } = this.row;
    ask({
      title: `${title} this actor?`,
      text: words,
      fields: action === "quarantine" || action === "stop" ? [{ name: "reason", title: "Reason", value: "by an operator" }] : [],
      verb: title,
      isDangerous: true,
      typed: name,
      act: async (values) => {
        await api(`api/actors/${this.id}/${action}`, { method: "PUT", body: { ...body, ...values, confirm: name } });
        this.look();
        return `${title}: done`;
      },
    });
  }

  dropHead({ type, summary }) {
    const { name } = this.row;
    ask({
      title: "Drop the oldest message?",
      text: `${type}: ${text(summary)}. It is refused to whoever waits for it, and kept among the failures.`,
      verb: "Drop it",
      isDangerous: true,
      typed: name,
      act: async () => {
        await api(`api/actors/${this.id}/mailbox/0`, { method: "DELETE", body: { confirm: name } });
        this.look();
        return "It is dropped";
      },
    });
  }

  // Every message that it handles from now on, for ten seconds.
  makeTrace() {
    const holder = this.holders.get("Trace");
    const lines = element("tbody");
    const note = element("p", { className: "note" }, "Shows every message that it handles, for ten seconds.");
    const start = button("Trace", () => {
      lines.replaceChildren();
      start.disabled = true;
      note.textContent = "…";
      const source = new EventSource(url(`api/actors/${this.id}/trace?seconds=10`));
      const end = (words) => {
        source.close();
        start.disabled = false;
        note.textContent = words;
      };
      source.addEventListener("handled", ({ data }) => {
        const { at, type, waited_ms: waited, took_ms: took, outcome } = JSON.parse(data);
        lines.prepend(element("tr", {}, ...[new Date(at * 1000).toISOString().slice(11, 23), type, kept(waited), kept(took), outcome].map((each) => element("td", {}, text(each)))));
        while (lines.childElementCount > 200) lines.lastChild.remove();
        note.textContent = `${number(lines.childElementCount)} messages`;
      });
      source.addEventListener("end", ({ data }) => {
        const { reason, left_out: left } = JSON.parse(data);
        end(`${text(reason)}${left ? `; ${number(left)} were left out` : ""}: ${number(lines.childElementCount)} messages`);
      });
      source.onerror = () => end("It can't be traced now: perhaps somebody else does.");
      this.signal.addEventListener("abort", () => source.close());
    });
    const head = element("tr", {}, ...["At", "Type", "Waited", "Took", "Outcome"].map((each) => element("th", {}, each)));
    holder.append(element("div", { className: "buttons" }, start), note, element("div", { className: "listing trace" }, element("table", {}, element("thead", {}, head), lines)));
  }
}

// A pause ends by itself: nobody forgets one for ever without having said so.
export function pauseActor(row, done = () => {}) {
  ask({
    title: `Pause ${row.kind ?? "this actor"} ${nameOf(row)}?`,
    text: "It finishes what it handles, and nothing more until it is resumed. What comes waits in its mailbox.",
    fields: [{ name: "seconds", title: "For", choices: [["60", "one minute"], ["600", "ten minutes"], ["3600", "an hour"], ["", "until somebody resumes it"]] }],
    verb: "Pause",
    typed: row.is_essential ? row.name : null,
    act: async ({ seconds }) => {
      await api(`api/actors/${row.id}/pause`, { method: "PUT", body: { for: seconds ? Number(seconds) : null, ...(row.is_essential ? { confirm: row.name } : {}) } });
      done();
      return `${nameOf(row)} is paused`;
    },
  });
}

// What was seen while the page was open: the API of actors keeps no history.
class MiniPlot {
  constructor(title, value, show) {
    Object.assign(this, { value, show });
    this.figure = element("strong", {}, "–");
    this.canvas = element("canvas", { className: "mini" });
    this.element = element("section", { className: "card chart" }, element("h2", {}, title, " ", this.figure), this.canvas);
  }

  draw(samples) {
    const values = samples.map(this.value);
    this.figure.textContent = this.show(values.at(-1));
    const { canvas } = this;
    const scale = devicePixelRatio || 1;
    const width = (canvas.width = canvas.clientWidth * scale);
    const height = (canvas.height = canvas.clientHeight * scale);
    const context = canvas.getContext("2d");
    const most = Math.max(1, ...values.map((each) => each ?? 0)) * 1.1;
    const colour = getComputedStyle(document.documentElement).getPropertyValue("--a").trim();
    const step = width / (POINTS - 1);
    const at = (index) => [width - (values.length - 1 - index) * step, height - 2 - ((values[index] ?? 0) / most) * (height - 4)];
    context.beginPath();
    values.forEach((_, index) => context.lineTo(...at(index)));
    context.strokeStyle = colour;
    context.lineWidth = 2 * scale;
    context.stroke();
    context.lineTo(width, height);
    context.lineTo(at(0)[0], height);
    context.fillStyle = `${colour}22`;
    context.fill();
  }
}
