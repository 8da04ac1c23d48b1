// The pages of one connection, channel, exchange or queue.

import { api, keepPolling, path } from "../api.js";
import { Chart, spanButtons } from "../chart.js";
import { button, card, element, facts, link, listing, renew } from "../dom.js";
import { bytes, duration, flags, number, rate, time } from "../format.js";
import * as actions from "./actions.js";
import { clientOf, exchangeName, moodOf, stateOf } from "./lists.js";

const UNACKED_MS = 2000;

const FLAGS = { durable: "durable", auto_delete: "auto-delete", exclusive: "exclusive", internal: "internal", confirm: "confirm", transactional: "tx" };

const actorLink = (row) => link(`number ${row.id}`, "actors", row.id);
const tableFacts = (table) => (Object.keys(table ?? {}).length ? facts(Object.entries(table)) : element("p", { className: "note" }, "None."));
const kept = (value, unit = duration) => (typeof value === "number" ? unit(value) : "–");

// What they have in common: a heading with buttons, the state, charts, cards that are made anew when they change.
class ObjectPage {
  constructor({ live, signal, topic, kind, name, buttons = [], charts = [], cards = [], back }) {
    this.signal = signal;
    this.state = element("span", { className: "pill" });
    this.buttons = element("div", { className: "buttons acts" }, ...buttons);
    this.charts = charts;
    this.cards = cards.map(([title, make]) => [element("div"), title, make]);
    this.wrong = element("p", { className: "wrong", role: "alert" });
    this.body = element(
      "div",
      {},
      charts.length ? element("div", { className: "cards two" }, ...charts.map((chart) => chart.element)) : null,
      element("div", { className: "masonry objects" }, ...this.cards.map(([holder, title]) => card(title, holder))),
    );
    this.element = element(
      "div",
      {},
      element("nav", { className: "crumbs", label: "Where" }, element("a", { href: back[0] }, back[1])),
      element("div", { className: "heading" }, element("h1", {}, element("small", {}, kind), element("span", { className: "name" }, name)), this.state, element("span", { className: "grow" }), charts.length ? spanButtons() : null),
      this.buttons,
      this.wrong,
      this.body,
    );
    live.listen(topic, (told) => this.update(told), signal);
  }

  update(row) {
    this.wrong.textContent = row.error ? `${row.error}.` : row.late ? `Its actor ${row.late}: what is shown comes from outside.` : "";
    this.body.classList.toggle("stale", Boolean(row.error));
    if (row.error) {
      this.state.textContent = "gone";
      this.state.dataset.mood = "bad";
      return;
    }
    this.row = row;
    this.state.textContent = stateOf(row);
    this.state.dataset.mood = moodOf(row) || "good";
    if (row.history) for (const chart of this.charts) chart.update(row.history);
    for (const [holder, , make] of this.cards) {
      const made = make(row);
      if (made) renew(holder, made[0], made[1]);
    }
  }
}

export function connectionPage({ live, signal, names: [name] }) {
  return new ObjectPage({
    live,
    signal,
    kind: "Connection",
    name,
    topic: `connection:${encodeURIComponent(name)}`,
    back: ["#connections", "Connections"],
    buttons: [button("Close…", () => actions.closeConnection(name), { className: "danger" })],
    charts: [new Chart("Bytes per second", [["recv_oct", "From the client"], ["send_oct", "To the client"]], bytes, signal, 1024)],
    cards: [
      ["Connection", (row) => [{ ...row, history: 0 }, () => facts([
        ["user", row.user],
        ["vhost", row.vhost],
        ["its own name", row.user_provided_name],
        ["client", clientOf(row)],
        ["peer", row.peer_host && `${row.peer_host}:${row.peer_port}`],
        ["login", row.auth_mechanism],
        ["connected", time(row.connected_at)],
        ["heartbeat", row.timeout ? `${row.timeout} s` : "none"],
        ["at most", `${number(row.channel_max)} channels, frames of ${bytes(row.frame_max)}`],
        ["received", bytes(row.recv_oct)],
        ["sent", bytes(row.send_oct)],
        ["waits to be sent", bytes(row.unsent_bytes)],
        ["messages that are not complete", bytes(row.unfinished_bytes)],
        ["held back by publish credit", row.blocked_by_credit],
        ["blocked by an alarm", row.reason_to_block],
        ["its actor", actorLink(row)],
      ])]],
      ["Channels", ({ channel_details: channels = [] }) => [channels, () => listing(channels, [
        ["Name", (each) => link(each.name, "channels", each.name)],
        ["Unacked", (each) => number(each.messages_unacknowledged), { numeric: true }],
        ["Unconfirmed", (each) => number(each.messages_unconfirmed), { numeric: true }],
        ["Consumers", (each) => number(each.consumer_count), { numeric: true }],
        ["Published /s", (each) => rate(each.message_stats?.publish_details.rate), { numeric: true }],
        ["Delivered /s", (each) => rate(each.message_stats?.deliver_get_details.rate), { numeric: true }],
      ])]],
      ["Client properties", ({ client_properties: properties }) => [properties, () => tableFacts(properties)]],
    ],
  });
}

export function channelPage({ live, signal, names: [name] }) {
  return new ObjectPage({
    live,
    signal,
    kind: "Channel",
    name,
    topic: `channel:${encodeURIComponent(name)}`,
    back: ["#channels", "Channels"],
    cards: [
      ["Channel", (row) => [row, () => facts([
        ["connection", row.connection && link(row.connection, "connections", row.connection)],
        ["user", row.user],
        ["vhost", row.vhost],
        ["mode", flags(row, FLAGS)],
        ["prefetch", `${number(row.prefetch_count)} per consumer, ${number(row.global_prefetch_count)} for all of it`],
        ["published", `${number(row.published)}, ${rate(row.message_stats?.publish_details.rate)}/s`],
        ["delivered", `${number(row.delivered)}, ${rate(row.message_stats?.deliver_get_details.rate)}/s`],
        ["acknowledged", `${number(row.acknowledged)}, ${rate(row.message_stats?.ack_details.rate)}/s`],
        ["not confirmed yet", number(row.messages_unconfirmed)],
        ["publishings on their way to queues", number(row.unaccepted)],
        ["waits for", row.waiting_for],
        ["waits behind that", number(row.backlog)],
        ["its actor", actorLink(row)],
      ])]],
      ["Consumers", ({ consumers = [], vhost }) => [consumers, () => listing(consumers, [
        ["Tag", (each) => each.consumer_tag],
        ["Queue", (each) => link(each.queue, "queues", vhost, each.queue)],
        ["Acknowledges", (each) => each.ack_required],
        ["Prefetch", (each) => number(each.prefetch_count), { numeric: true }],
        ["Unacked", (each) => number(each.unacked), { numeric: true }],
        ["Delivered", (each) => number(each.delivered), { numeric: true }],
      ])]],
      ["Unacknowledged, the oldest first", ({ unacked = [], vhost }) => [unacked, () => listing(unacked, [
        ["Tag", (each) => number(each.delivery_tag), { numeric: true }],
        ["Queue", (each) => link(each.queue, "queues", vhost, each.queue)],
        ["Consumer", (each) => each.consumer_tag ?? "(basic.get)"],
        ["For", (each) => kept(each.age_ms), { numeric: true }],
        ["Routing key", (each) => each.routing_key],
        ["Bytes", (each) => number(each.payload_bytes), { numeric: true }],
        ["Redelivered", (each) => each.redelivered],
      ])]],
    ],
  });
}

export function exchangePage({ live, signal, names: [vhost, name] }) {
  const isDefault = name === "amq.default";
  const buttons = [button("Publish…", () => actions.publish(vhost, name), { className: "primary" })];
  if (!name.startsWith("amq.")) buttons.push(button("Delete…", () => actions.deleteExchange(vhost, name), { className: "danger" }));
  return new ObjectPage({
    live,
    signal,
    kind: "Exchange",
    name: isDefault ? "(default)" : name,
    topic: `exchange:${encodeURIComponent(vhost)}:${encodeURIComponent(name)}`,
    back: ["#exchanges", "Exchanges"],
    buttons,
    charts: [new Chart("Messages per second", [["published_in", "In"], ["published_out", "Out, to queues and exchanges"]], rate, signal)],
    cards: [
      ["Exchange", (row) => [{ ...row, bindings: 0, history: 0 }, () => facts([
        ["vhost", row.vhost],
        ["type", row.type],
        ["features", flags(row, FLAGS)],
        ["policy", row.policy],
        ["in", number(row.published_in)],
        ["out", number(row.published_out)],
        ["messages delayed", row.messages_delayed === undefined ? undefined : number(row.messages_delayed)],
        ["its actor", actorLink(row)],
      ])]],
      ["Bindings from here", ({ bindings = [], binding_count: count }) => [[bindings, count], () => [
        listing(bindings, [
          ["To", (each) => link(each.destination, each.destination_type === "queue" ? "queues" : "exchanges", vhost, each.destination)],
          ["Kind", (each) => each.destination_type],
          ["Routing key", (each) => each.routing_key],
          ["Arguments", (each) => each.arguments],
        ], "Nothing is bound to it: what is published here goes nowhere."),
        count > bindings.length ? element("p", { className: "note" }, `${number(count)} in all.`) : null,
      ]]],
      ["Arguments", (row) => [row.arguments, () => tableFacts(row.arguments)]],
    ],
  });
}

export function queuePage({ live, signal, names: [vhost, name] }) {
  const messages = element("div");
  const unacked = element("div");
  const pause = button("Pause…", () => actions.pauseOrResume(page.row), { className: "pause", disabled: true });
  const page = new ObjectPage({
    live,
    signal,
    kind: "Queue",
    name,
    topic: `queue:${encodeURIComponent(vhost)}:${encodeURIComponent(name)}`,
    back: ["#queues", "Queues"],
    buttons: [
      button("Publish…", () => actions.publish(vhost, "amq.default", name), { className: "primary" }),
      button("Peek", () => actions.peek(vhost, name, messages)),
      button("Get…", () => actions.get(vhost, name, messages)),
      button("Move…", () => actions.move(vhost, name, page.row)),
      pause,
      button("Purge…", () => actions.purge(vhost, name, page.row), { className: "danger" }),
      button("Delete…", () => actions.deleteQueue(vhost, name, page.row), { className: "danger" }),
    ],
    charts: [
      new Chart("Messages", [["messages_ready", "Ready"], ["messages_unacknowledged", "Unacked"]], number, signal),
      new Chart("Messages per second", [["published", "In"], ["delivered", "Out"], ["acknowledged", "Acked"], ["redelivered", "Redelivered"]], rate, signal),
    ],
    cards: [
      ["Queue", (row) => [{ ...row, bindings: 0, history: 0, consumer_details: 0 }, () => facts([
        ["vhost", row.vhost],
        ["features", flags(row, FLAGS)],
        ["policy", row.policy],
        ["ready", number(row.messages_ready)],
        ["unacknowledged", number(row.messages_unacknowledged)],
        ["oldest ready", row.messages_ready ? kept(row.oldest_ready_ms) : "–"],
        ["bytes ready", bytes(row.message_bytes_ready)],
        ["on disk only", number(row.messages_paged_out)],
        ["published", number(row.published)],
        ["delivered", number(row.delivered)],
        ["redelivered", number(row.redelivered)],
        ["acknowledged", number(row.acknowledged)],
        ["on their way to where the dead go", number(row.messages_dying)],
        ["duplicates dropped", number(row.duplicates_dropped)],
        ["messages in the actor's mailbox", number(row.mailbox_depth)],
        ["its actor", actorLink(row)],
      ])]],
      ["Consumers", ({ consumer_details: consumers = [] }) => [consumers, () => listing(consumers, [
        ["Tag", (each) => each.consumer_tag],
        ["Channel", (each) => link(each.channel, "channels", each.channel)],
        ["Mode", (each) => [each.ack_required ? "acks" : "no acks", each.exclusive ? "exclusive" : ""].filter(Boolean).join(", ")],
        ["Prefetch", (each) => number(each.prefetch_count), { numeric: true }],
        ["Unacked", (each) => number(each.unacked), { numeric: true }],
        ["Delivered", (each) => number(each.delivered), { numeric: true }],
      ], "Nobody consumes from it.")]],
      ["Bindings to here", ({ bindings = [] }) => [bindings, () => listing(bindings, [
        ["From", (each) => link(each.source, "exchanges", vhost, exchangeName(each.source))],
        ["Routing key", (each) => each.routing_key],
        ["Arguments", (each) => each.arguments],
      ], "Only from the default exchange, by its name.")]],
      ["Publishers held back", ({ held_publishings: held = {} }) => [held, () => listing(Object.entries(held), [
        ["Who", ([channel]) => link(channel, "channels", channel)],
        ["Publishings", ([, count]) => number(count), { numeric: true }],
      ])]],
      ["Arguments", (row) => [[row.arguments, row.effective_policy_definition], () => tableFacts(row.arguments)]],
    ],
  });
  page.body.append(element("div", { className: "cards" }, card("Unacknowledged: who has what, the oldest first", unacked), card("Messages", messages)));
  messages.append(element("p", { className: "note" }, "Peek shows what is ready and leaves it where it is. Get takes it from the head."));
  const update = page.update.bind(page);
  page.update = (row) => {
    update(row);
    pause.textContent = row.actor_state === "paused" ? "Resume" : "Pause…";
    pause.disabled = false;
  };
  keepUnacked(vhost, name, unacked, signal);
  return page;
}

function keepUnacked(vhost, name, holder, signal) {
  keepPolling(signal, UNACKED_MS, async () => {
    const told = await api(path("queues", vhost, name, "unacked"), { signal });
    renew(holder, told, () => unackedListing(told));
  });
}

function unackedListing({ items, total, late }) {
  const listed = listing(items, [
    ["For", (each) => kept(each.age_ms), { numeric: true }],
    ["Consumer", (each) => each.consumer_tag ?? "(basic.get)"],
    ["Channel", (each) => link(each.channel, "channels", each.channel)],
    ["Tag", (each) => number(each.delivery_tag), { numeric: true }],
    ["Message", (each) => each.message_id ?? `at ${number(each.position)}`],
    ["Routing key", (each) => each.routing_key],
    ["Bytes", (each) => number(each.payload_bytes), { numeric: true }],
    ["Redelivered", (each) => (each.returns ? `${number(each.returns)} times` : each.redelivered)],
  ], "Nothing is out.");
  const notes = [];
  if (total > items.length) notes.push(`${number(items.length)} of ${number(total)} are listed.`);
  if (late.length) notes.push(`No answer from ${late.join(", ")}.`);
  return [listed, ...notes.map((words) => element("p", { className: "note" }, words))];
}

