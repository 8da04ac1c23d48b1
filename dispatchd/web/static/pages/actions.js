// What can be done to queues, exchanges and connections: each asked for first.

import { api, path } from "../api.js";
import { ask, toast } from "../dialog.js";
import { element, facts } from "../dom.js";
import { bytes, number, text } from "../format.js";
import { pauseActor } from "./actor.js";

const SHOWN_OCTETS = 50000;
const MOVED_AT_ONCE = 10000;

export function closeConnection(name) {
  ask({
    title: "Close this connection?",
    text: "Its client is told 320 CONNECTION_FORCED and the reason. What it has not acknowledged goes back to its queues.",
    fields: [{ name: "reason", title: "Reason", value: "closed by an operator" }],
    verb: "Close the connection",
    isDangerous: true,
    async act({ reason }) {
      await api(path("connections", name), { method: "DELETE", headers: { "X-Reason": reason.replace(/[^\x20-\x7e]/g, "?") } });
      location.hash = "#connections";
      return `${name} is closed`;
    },
  });
}

export function publish(vhost, exchange, key = "") {
  ask({
    title: exchange === "amq.default" ? "Publish to a queue" : `Publish to ${exchange}`,
    fields: [
      { name: "key", title: "Routing key", value: key },
      { name: "payload", title: "Body", type: "area" },
      { name: "headers", title: "Headers (JSON)", placeholder: '{"x": 1}' },
      { name: "type", title: "Content type" },
      { name: "isPersistent", title: "persistent", type: "checkbox", value: true },
    ],
    verb: "Publish",
    async act({ key: routingKey, payload, headers, type, isPersistent }) {
      const properties = { delivery_mode: isPersistent ? 2 : 1 };
      if (type) properties.content_type = type;
      if (headers.trim()) properties.headers = parsed(headers);
      const body = { routing_key: routingKey, payload, payload_encoding: "string", properties };
      const { routed } = await api(path("exchanges", vhost, exchange, "publish"), { method: "POST", body });
      if (!routed) throw new Error("No queue took it: nothing is bound that matches this key.");
      return "Published: it is in its queues";
    },
  });
}

function parsed(headers) {
  let found;
  try {
    found = JSON.parse(headers);
  } catch (error) {
    throw new Error(`The headers are not JSON: ${error.message}`);
  }
  if (typeof found !== "object" || found === null || Array.isArray(found)) throw new Error("The headers are not a JSON object.");
  return found;
}

export async function peek(vhost, name, holder, skip = 0) {
  try {
    const rows = await api(`${path("queues", vhost, name, "peek")}?count=20&skip=${skip}&truncate=${SHOWN_OCTETS}`);
    showMessages(holder, rows, "Ready, from the head on, and left where they are.");
  } catch (error) {
    toast(error.message, "bad");
  }
}

export function get(vhost, name, holder) {
  ask({
    title: "Get messages",
    text: "They are taken from the head of the queue.",
    fields: [
      { name: "count", title: "How many", type: "number", value: 1, min: 1 },
      {
        name: "ackmode",
        title: "What becomes of them",
        choices: [
          ["ack_requeue_true", "They go back, marked as redelivered"],
          ["ack_requeue_false", "They are acknowledged: gone"],
          ["reject_requeue_false", "They are rejected: dead-lettered, or gone"],
        ],
      },
    ],
    verb: "Get",
    async act({ count, ackmode }) {
      const body = { count, ackmode, encoding: "auto", truncate: SHOWN_OCTETS };
      const rows = await api(path("queues", vhost, name, "get"), { method: "POST", body });
      showMessages(holder, rows, ackmode === "ack_requeue_true" ? "Taken from the head, and put back." : "Taken from the head: they are no longer in the queue.");
      return `${number(rows.length)} ${rows.length === 1 ? "message" : "messages"}`;
    },
  });
}

function showMessages(holder, rows, note) {
  holder.replaceChildren(
    element("p", { className: "note" }, rows.length ? note : "Nothing is ready."),
    ...rows.map((row, index) => {
      const about = `${row.routing_key || "(no key)"} · ${bytes(row.payload_bytes)}${row.redelivered ? " · redelivered" : ""}`;
      const from = row.exchange ? `by way of ${row.exchange}` : "by the default exchange";
      return element(
        "details",
        { className: "message", open: index === 0 },
        element("summary", {}, element("strong", {}, `#${number(row.position)}`), ` ${about} · ${from}`),
        facts(Object.entries(row.properties).map(([name, value]) => [name, text(value)])),
        element("pre", {}, row.payload),
        row.payload_encoding === "base64" ? element("p", { className: "note" }, "The body is not text: shown as base64.") : null,
      );
    }),
  );
  holder.scrollIntoView({ block: "nearest" });
}

export function move(vhost, name, row) {
  const ready = row?.messages_ready ?? 0;
  ask({
    title: "Move messages",
    text: `They go from the head to another queue of ${vhost}, and leave this one when they are safe there.`,
    fields: [
      { name: "target", title: "To the queue", required: true },
      { name: "count", title: "At most", type: "number", value: ready || 1, min: 1 },
    ],
    verb: "Move",
    async act({ target, count }) {
      let moved = 0;
      while (moved < count) {
        const body = { target, count: Math.min(MOVED_AT_ONCE, count - moved) };
        const told = await api(path("queues", vhost, name, "move"), { method: "POST", body });
        moved += told.moved;
        if (told.refused) throw new Error(`${number(moved)} moved, then ${target} took no more.`);
        if (told.moved < body.count) break;
      }
      return `${number(moved)} moved to ${target}`;
    },
  });
}

export function purge(vhost, name, row) {
  ask({
    title: "Purge this queue?",
    text: `${number(row?.messages_ready ?? 0)} messages that are ready are lost.`,
    verb: "Purge",
    isDangerous: true,
    typed: name,
    async act() {
      await api(path("queues", vhost, name, "contents"), { method: "DELETE" });
      return `${name} is empty`;
    },
  });
}

export function deleteQueue(vhost, name, row) {
  ask({
    title: "Delete this queue?",
    text: `${number(row?.messages ?? 0)} messages are lost, and ${number(row?.consumers ?? 0)} consumers are cancelled.`,
    verb: "Delete",
    isDangerous: true,
    typed: name,
    async act() {
      await api(path("queues", vhost, name), { method: "DELETE" });
      location.hash = "#queues";
      return `${name} is deleted`;
    },
  });
}

export function deleteExchange(vhost, name) {
  ask({
    title: "Delete this exchange?",
    text: "Its bindings go with it.",
    verb: "Delete",
    isDangerous: true,
    typed: name,
    async act() {
      await api(path("exchanges", vhost, name), { method: "DELETE" });
      location.hash = "#exchanges";
      return `${name} is deleted`;
    },
  });
}

export async function pauseOrResume(row) {
  if (row.actor_state !== "paused") {
    pauseActor({ ...row, kind: "queue" });
    return;
  }
  try {
    await api(`api/actors/${row.id}/resume`, { method: "PUT", body: {} });
    toast(`${row.name} goes on`);
  } catch (error) {
    toast(error.message, "bad");
  }
}
