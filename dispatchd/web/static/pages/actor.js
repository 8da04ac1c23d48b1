// One actor: what it does, what waits for it, what it failed at; and what can be done to it, each asked for first.

import { api, keepPolling, url } from "../api.js";
import { ask, toast } from "../dialog.js";
import { button, card, element, facts, link, listing, renew } from "../dom.js";
import { bytes, duration, number, rate, text, time } from "../format.js";
import { exchangeName } from "./lists.js";

const REFRESH_MS = 1000;
const POINTS = 120;
export const AMBER_MS = 100;
const RED_MS = 1000;
const BAD = new Set(["quarantined", "dead"]);
const ODD = new Set(["paused", "restarting"]);

export const moodOf = ({ state, handling_ms: handling, oldest_ms: oldest }) => {
  if (BAD.has(state) || handling > RED_MS) return "bad";
  if (ODD.has(state) || handling > AMBER_MS || oldest > RED_MS) return "odd";
  return state === "idle" ? "still" : "good";
};
export const nameOf = ({ name }) => (name === "" ? "(default)" : name);
export const percent = (value) => (typeof value === "number" ? `${value < 10 ? value.toFixed(1) : Math.round(value)} %` : "–");
export const kept = (value) => (typeof value === "number" ? duration(value) : "–");

// A plain sentence on what an actor is about.
function sentence(row) {
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

export function failureList(failures, isNamed) {
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

async function act(relative, method, body, done) {
  try {
    await api(relative, { method, body });
    toast(done);
  } catch (error) {
    toast(error.message, "bad");
  }
}
