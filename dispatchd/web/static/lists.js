// The sections that are tables: what is asked, which columns, and what opens below a row.

import { element, facts, listing } from "./dom.js";
import { bytes, duration, flags, number, rate, share, text, time } from "./format.js";
import { Rates } from "./rates.js";
import { Table, asTree } from "./table.js";

const STUCK_MS = 1000;

const count = (key, title, hint) => ({ key, title, hint, numeric: true, value: (row) => row[key], show: number });
const words = (key, title, hint) => ({ key, title, hint, value: (row) => row[key] });
const perSecond = (field, title) => ({
  key: `${field}_rate`,
  title,
  hint: `${field}, per second since the last look`,
  numeric: true,
  value: (row) => row.rates[field],
  show: rate,
});
const depth = count("mailbox_depth", "Mailbox", "messages that wait in the mailbox of its actor");
const state = {
  key: "state",
  title: "State",
  value: (row) => row.late ?? (row.actor_state !== "running" ? row.actor_state : (row.state ?? row.actor_state)),
};

function rowClass(row) {
  if ((row.actor_state ?? row.state) === "quarantined") return "bad";
  return row.late || row.actor_state === "paused" ? "odd" : "";
}

const FLAGS = { durable: "durable", auto_delete: "auto-delete", exclusive: "exclusive", internal: "internal" };
const features = { key: "features", title: "Features", value: (row) => flags(row, FLAGS) || null };
const argumentFacts = (title, table) =>
  table && Object.keys(table).length ? [element("h3", {}, title), facts(Object.entries(table))] : [];
const actorLink = (row) =>
  element("p", { className: "note" }, element("a", { href: `#actors?text=%23${row.id}&open=${row.id}` }, `Its actor is number ${row.id}`));
const late = (row) => element("p", {}, `It ${row.late}. What is known of it comes from outside.`);

export const LISTS = {
  connections: {
    title: "Connections",
    path: "api/connections",
    rates: ["recv_oct", "send_oct"],
    columns: [
      words("name", "Name"),
      words("user", "User"),
      words("vhost", "Vhost"),
      { ...state, show: (value, row) => (row.blocked_by_credit ? `${text(value)}, held back` : text(value)) },
      { key: "client", title: "Client", value: (row) => client(row.client_properties) },
      words("user_provided_name", "Its own name", "what the client calls this connection (connection_name)"),
      count("channels", "Channels"),
      { ...perSecond("recv_oct", "From client/s"), show: bytes },
      { ...perSecond("send_oct", "To client/s"), show: bytes },
      {
        key: "timeout",
        title: "Heartbeat",
        numeric: true,
        value: (row) => row.timeout,
        show: (value) => (value ? `${value} s` : "–"),
      },
      {
        key: "age",
        title: "Since",
        numeric: true,
        value: (row) => (row.connected_at ? Date.now() - row.connected_at : null),
        show: duration,
      },
      depth,
    ],
    detail: (row) => [
      facts([
        ["peer", row.peer_host && `${row.peer_host}:${row.peer_port}`],
        ["listener", row.host && `${row.host}:${row.port}`],
        ["protocol", row.protocol],
        ["at most", `${number(row.channel_max)} channels, frames of ${bytes(row.frame_max)}`],
        ["connected", time(row.connected_at)],
        ["received", bytes(row.recv_oct)],
        ["sent", bytes(row.send_oct)],
      ]),
      ...argumentFacts("Client properties", row.client_properties),
    ],
  },
  channels: {
    title: "Channels",
    path: "api/channels",
    rates: ["published", "delivered", "acknowledged"],
    columns: [
      words("name", "Name"),
      words("user", "User"),
      words("vhost", "Vhost"),
      state,
      { key: "mode", title: "Mode", value: (row) => flags(row, { confirm: "confirm", transactional: "tx" }) || null },
      count("prefetch_count", "Prefetch", "per consumer; for the whole channel in the details"),
      count("consumer_count", "Consumers"),
      count("messages_unacknowledged", "Unacked"),
      count("messages_unconfirmed", "Unconfirmed"),
      perSecond("published", "Published/s"),
      perSecond("delivered", "Delivered/s"),
      perSecond("acknowledged", "Acked/s"),
      { ...words("waiting_for", "Waits for"), narrow: true },
      depth,
    ],
    detail: (row) => [
      facts([
        ["connection", row.connection],
        ["number", row.number],
        ["prefetch of the channel", number(row.global_prefetch_count)],
        ["published", number(row.published)],
        ["delivered", number(row.delivered)],
        ["acknowledged", number(row.acknowledged)],
        ["waits for", row.waiting_for],
      ]),
    ],
  },
  exchanges: {
    title: "Exchanges",
    path: "api/exchanges",
    rates: ["published_in", "published_out"],
    columns: [
      { ...words("name", "Name"), show: (value) => (value === "" ? "(default)" : text(value)) },
      words("vhost", "Vhost"),
      words("type", "Type"),
      features,
      { key: "bindings", title: "Bindings", numeric: true, value: (row) => row.binding_count, show: number },
      count("messages_delayed", "Delayed", "messages that wait in a delayed exchange"),
      perSecond("published_in", "In/s"),
      perSecond("published_out", "Out/s"),
      state,
      depth,
    ],
    detail: (row) => [
      ...argumentFacts("Arguments", row.arguments),
      listing("Bindings", row.bindings ?? [], [
        ["To", (binding) => binding.destination],
        ["Kind", (binding) => binding.destination_type],
        ["Routing key", (binding) => binding.routing_key],
        ["Arguments", (binding) => binding.arguments],
      ]),
    ],
  },
  queues: {
    title: "Queues",
    path: "api/queues",
    rates: ["published", "delivered", "acknowledged"],
    columns: [
      words("name", "Name"),
      words("vhost", "Vhost"),
      features,
      { ...state, show: (value, row) => (row.holds_credit ? `${text(value)}, holds publishers` : text(value)) },
      count("messages_ready", "Ready"),
      count("messages_unacknowledged", "Unacked"),
      count("messages", "Total"),
      { ...count("message_bytes_ready", "Bytes", "of messages that are ready"), show: bytes },
      count("consumers", "Consumers"),
      perSecond("published", "In/s"),
      perSecond("delivered", "Out/s"),
      perSecond("acknowledged", "Acked/s"),
      depth,
    ],
    detail: (row) => [
      facts([
        ["published", number(row.published)],
        ["delivered", number(row.delivered)],
        ["redelivered", number(row.redelivered)],
        ["acknowledged", number(row.acknowledged)],
        ["holds publishers back", row.holds_credit],
      ]),
      ...argumentFacts("Arguments", row.arguments),
      listing("Consumers", row.consumer_details ?? [], [
        ["Tag", (consumer) => consumer.consumer_tag],
        ["Channel", (consumer) => consumer.channel],
        ["Acknowledges", (consumer) => consumer.ack_required],
        ["Exclusive", (consumer) => consumer.exclusive],
        ["Prefetch", (consumer) => consumer.prefetch_count],
        ["Unacked", (consumer) => consumer.unacked],
        ["Delivered", (consumer) => consumer.delivered],
      ]),
    ],
  },
  actors: {
    title: "Actors",
    path: "api/actors?limit=1000",
    sort: "-state",
    rates: ["handled", "busy_ms"],
    choices: { title: "Kind", all: "all kinds", value: (row) => row.kind },
    tree: asTree,
    columns: [
      {
        key: "state",
        title: "State",
        hint: "sorted by how bad it is",
        value: trouble,
        show: (_value, row) => row.state,
      },
      words("kind", "Kind"),
      { ...words("name", "Name"), indents: true, show: (value) => (value === "" ? "(default)" : text(value)) },
      { ...words("parent_name", "Parent"), narrow: true, notInTree: true },
      count("mailbox_depth", "Mailbox", "messages that wait"),
      count("mailbox_peak", "Peak", "the deepest that the mailbox was in the last minute"),
      { ...count("oldest_ms", "Oldest", "how long the oldest of them waits"), show: duration },
      perSecond("handled", "Handled/s"),
      {
        key: "busy",
        title: "Busy",
        hint: "time in handlers, as a share of the time since the last look",
        numeric: true,
        value: busyShare,
        show: share,
      },
      count("failures", "Failures"),
      count("restarts", "Restarts"),
      {
        key: "last_failure",
        title: "Last failure",
        hint: "sorted by when it was",
        narrow: true,
        value: (row) => row.last_failure?.at ?? null,
        show: (_value, row) => row.last_failure?.error ?? "–",
      },
    ],
    rowClass: (row) => ["", "odd", "odd", "bad"][trouble(row)],
    detail: actorDetail,
  },
};

function client(properties) {
  return properties ? [properties.product, properties.version].filter(Boolean).map(text).join(" ") || null : null;
}

function busyShare(row) {
  return row.rates.busy_ms === null ? null : Math.min(1, row.rates.busy_ms / 1000);
}

// 3 is quarantined, 2 paused, 1 behind: its oldest message waits too long.
function trouble(row) {
  if (row.state === "quarantined") return 3;
  if (row.state === "paused") return 2;
  return row.oldest_ms > STUCK_MS ? 1 : 0;
}

function actorDetail(row) {
  if (!row.more) return [[null, () => [element("p", { className: "note" }, "Asking…")]]];
  const { handling, handling_ms, mailbox_head, kept_failures, snapshot } = row.more;
  const { id, name, mailbox_depth, actor_state, late: why, ...told } = snapshot;
  const seen = [
    ["number", String(row.id)],
    ["handles now", handling && `${handling}, for ${duration(handling_ms)}`],
    ["waits in the mailbox", mailbox_head],
    ["handled", number(row.handled)],
    ["time in handlers", duration(row.busy_ms)],
  ];
  const failures = () => [
    element("h3", {}, `Failures kept (${kept_failures.length})`),
    ...kept_failures.map((failure, index) => {
      const summary = element("summary", {}, `${time(failure.at * 1000)}  ${failure.error}`);
      const message = element("p", { className: "note" }, `while it handled ${failure.message}`);
      return element("details", { open: index === 0 }, summary, message, element("pre", {}, failure.traceback));
    }),
  ];
  return [
    [seen, () => [facts(seen)]],
    [kept_failures, () => (kept_failures.length ? failures() : [])],
    [snapshot, () => [element("h3", {}, "What it tells of itself"), why ? element("p", {}, `It ${why}.`) : facts(told)]],
  ];
}

// One section that is a table: polls its rows, and for actors the details of those that are open.
export class List {
  constructor(key, stateOfView) {
    const list = LISTS[key];
    this.list = list;
    this.rates = new Rates(list.rates);
    this.isActors = key === "actors";
    if (list.sort && !stateOfView.get("sort")) stateOfView.set("sort", list.sort);
    this.table = new Table({
      ...list,
      state: stateOfView,
      rowClass: list.rowClass ?? rowClass,
      haystack: (row) => `#${row.id} ${row.kind ?? ""} ${row.name} ${row.vhost ?? ""} ${row.user ?? ""} ${row.state ?? ""}`,
      detail: this.isActors
        ? list.detail
        : (row) => [[row, () => [...(row.late ? [late(row)] : list.detail(row)), actorLink(row)]]],
    });
    this.element = this.table.element;
  }

  async poll(get) {
    const found = await get(this.list.path);
    const rows = this.rates.add(this.isActors ? found.items : found);
    if (this.isActors) await this.addToActors(rows, get);
    this.table.update(rows);
  }

  async addToActors(rows, get) {
    const byId = new Map(rows.map((row) => [row.id, row]));
    for (const row of rows) row.parent_name = byId.get(row.parent)?.name ?? null;
    const open = [...this.table.open].map((id) => byId.get(id)).filter(Boolean);
    await Promise.all(
      open.map(async (row) => {
        row.more = await get(`api/actors/${row.id}`).catch(() => null);
      }),
    );
  }
}
