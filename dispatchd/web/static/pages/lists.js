// The sections that are long tables: connections, channels, exchanges and queues.

import { api, path } from "../api.js";
import { ask, toast } from "../dialog.js";
import { address, element } from "../dom.js";
import { bytes, duration, flags, number, rate, text } from "../format.js";
import { PagedTable } from "../table.js";

const FLAGS = { durable: "durable", auto_delete: "auto-delete", exclusive: "exclusive", internal: "internal" };

const words = (key, title, options = {}) => ({ key, title, sort: key, show: (row) => text(row[key]), ...options });
const count = (key, title, options = {}) => ({ key, title, sort: key, numeric: true, show: (row) => number(row[key]), ...options });
const perSecond = (stat, title, hint) => ({
  key: stat,
  title,
  hint,
  sort: `message_stats.${stat}_details.rate`,
  numeric: true,
  show: (row) => rate(row.message_stats?.[`${stat}_details`].rate),
});
const bytesPerSecond = (stat, title) => ({
  key: stat,
  title,
  sort: `${stat}_details.rate`,
  numeric: true,
  show: (row) => bytes(row[`${stat}_details`]?.rate),
});
const features = { key: "features", title: "Features", show: (row) => flags(row, FLAGS) || "–" };
const state = {
  key: "state",
  title: "State",
  sort: "state",
  show: (row) => stateOf(row),
  mood: moodOf,
};

// What an actor's own state says goes before what its object says: paused and quarantined ones do nothing.
export function stateOf(row) {
  if (row.actor_state && row.actor_state !== "running") return row.actor_state;
  if (row.late) return row.late;
  if (row.blocked_by_credit) return `${text(row.state)}, held back`;
  if (row.holds_credit) return `${text(row.state)}, holds publishers back`;
  return text(row.state ?? row.actor_state);
}

export function moodOf(row) {
  if (row.actor_state === "quarantined") return "bad";
  if (row.actor_state === "paused" || row.late || row.state === "blocked") return "odd";
  return row.blocked_by_credit || row.holds_credit || row.state === "blocking" ? "odd" : "";
}

export function clientOf({ client_properties: properties }) {
  return properties ? [properties.product, properties.version].filter(Boolean).map(text).join(" ") || "–" : "–";
}

export const exchangeName = (name) => (name === "" || name === "(default)" ? "amq.default" : name);

export const LISTS = {
  connections: {
    title: "Connections",
    columns: [
      words("name", "Name", { link: (row) => address("connections", row.name) }),
      words("user_provided_name", "Its own name", { hint: "what the client calls this connection (connection_name)" }),
      words("user", "User"),
      words("vhost", "Vhost"),
      state,
      { key: "client", title: "Client", show: clientOf },
      count("channels", "Channels"),
      bytesPerSecond("recv_oct", "From client /s"),
      bytesPerSecond("send_oct", "To client /s"),
      { key: "timeout", title: "Heartbeat", sort: "timeout", numeric: true, show: (row) => (row.timeout ? `${row.timeout} s` : "–"), hidden: true },
      { key: "connected_at", title: "Since", sort: "connected_at", numeric: true, show: (row) => (row.connected_at ? duration(Date.now() - row.connected_at) : "–") },
      count("mailbox_depth", "Mailbox", { hidden: true, hint: "messages that wait in the mailbox of its actor" }),
    ],
  },
  channels: {
    title: "Channels",
    columns: [
      words("name", "Name", { link: (row) => address("channels", row.name) }),
      words("user", "User"),
      words("vhost", "Vhost"),
      state,
      { key: "mode", title: "Mode", show: (row) => flags(row, { confirm: "confirm", transactional: "tx" }) || "–" },
      count("prefetch_count", "Prefetch", { hint: "per consumer" }),
      count("consumer_count", "Consumers"),
      count("messages_unacknowledged", "Unacked"),
      count("messages_unconfirmed", "Unconfirmed"),
      perSecond("publish", "Published /s"),
      perSecond("deliver_get", "Delivered /s"),
      perSecond("ack", "Acked /s"),
      words("waiting_for", "Waits for"),
      count("mailbox_depth", "Mailbox", { hidden: true }),
    ],
  },
  exchanges: {
    title: "Exchanges",
    columns: [
      words("name", "Name", {
        link: (row) => address("exchanges", row.vhost ?? "", exchangeName(row.name)),
        show: (row) => (exchangeName(row.name) === "amq.default" ? "(default)" : row.name),
      }),
      words("vhost", "Vhost"),
      words("type", "Type"),
      features,
      words("policy", "Policy", { hidden: true }),
      count("binding_count", "Bindings"),
      count("messages_delayed", "Delayed", { hidden: true, hint: "messages that wait in a delayed exchange" }),
      perSecond("publish_in", "In /s"),
      perSecond("publish_out", "Out /s"),
      state,
      count("mailbox_depth", "Mailbox", { hidden: true }),
    ],
  },
  queues: {
    title: "Queues",
    bulk: [
      ["Purge…", purgeAll],
      ["Delete…", deleteAll],
    ],
    columns: [
      words("name", "Name", { link: (row) => address("queues", row.vhost ?? "", row.name) }),
      words("vhost", "Vhost"),
      features,
      words("policy", "Policy", { hidden: true }),
      state,
      count("messages_ready", "Ready"),
      count("messages_unacknowledged", "Unacked"),
      count("messages", "Total", { hidden: true }),
      { ...count("message_bytes_ready", "Bytes", { hint: "of messages that are ready" }), show: (row) => bytes(row.message_bytes_ready) },
      count("consumers", "Consumers"),
      perSecond("publish", "In /s"),
      perSecond("deliver_get", "Out /s"),
      perSecond("ack", "Acked /s"),
      count("mailbox_depth", "Mailbox", { hidden: true, hint: "messages that wait in the mailbox of its actor" }),
    ],
  },
};

export class List {
  constructor({ name, state: stateOfPage, signal }) {
    const { title, columns, bulk = [] } = LISTS[name];
    this.table = new PagedTable({
      list: `api/${name}`,
      noun: title.toLowerCase(),
      columns,
      bulk,
      state: stateOfPage,
      signal,
      rowClass: (row) => moodOf(row) && (row.actor_state === "quarantined" ? "bad" : row.actor_state === "paused" ? "odd" : ""),
    });
    this.element = element("div", {}, element("div", { className: "heading" }, element("h1", {}, title)), this.table.element);
  }
}

function purgeAll(rows, done) {
  const messages = rows.reduce((sum, row) => sum + (row.messages_ready ?? 0), 0);
  ask({
    title: `Purge ${number(rows.length)} queues?`,
    text: `${number(messages)} messages that are ready are lost.`,
    verb: "Purge",
    isDangerous: true,
    act: () => each(rows, (row) => api(path("queues", row.vhost, row.name, "contents"), { method: "DELETE" }), "purged", done),
  });
}

function deleteAll(rows, done) {
  const messages = rows.reduce((sum, row) => sum + (row.messages ?? 0), 0);
  ask({
    title: `Delete ${number(rows.length)} queues?`,
    text: `${number(messages)} messages are lost, and ${number(rows.reduce((sum, row) => sum + (row.consumers ?? 0), 0))} consumers are cancelled.`,
    verb: "Delete",
    isDangerous: true,
    typed: rows.length === 1 ? rows[0].name : `${rows.length} queues`,
    act: () => each(rows, (row) => api(path("queues", row.vhost, row.name), { method: "DELETE" }), "deleted", done),
  });
}

async function each(rows, act, what, done) {
  let count = 0;
  for (const row of rows) {
    try {
      await act(row);
      count += 1;
    } catch (error) {
      toast(`${row.name}: ${error.message}`, "bad");
    }
  }
  done();
  return `${number(count)} ${what}`;
}
