// Who waits for whom: alarms, connections that are not read any further, queues that hold publishers back.

import { address, card, element, link, listing, renew } from "../dom.js";
import { duration, number, text } from "../format.js";
import { exchangeName } from "./lists.js";

export class Flow {
  constructor({ live, signal }) {
    this.sentence = element("p", { className: "sentence" }, "…");
    this.alarms = element("div");
    this.connections = element("div");
    this.queues = element("div");
    this.actors = element("div");
    this.element = element(
      "div",
      {},
      element("div", { className: "heading" }, element("h1", {}, "Flow")),
      this.sentence,
      element(
        "div",
        { className: "cards" },
        card("Alarms", this.alarms),
        card("Connections that have to wait", this.connections),
        card("Queues that hold publishers back", this.queues),
        card("Actors that are held, or behind", this.actors),
      ),
    );
    live.listen("flow", (told) => told.error || this.update(told), signal);
  }

  update({ alarms, connections, queues, actors }) {
    this.sentence.textContent = sentence(alarms, connections, queues);
    renew(this.alarms, alarms, () => listing(alarms, [
      ["What", ({ cause }) => cause],
      ["Why", ({ detail }) => detail],
    ], "None: nobody is blocked by one."));
    renew(this.connections, connections, () => listing(connections, [
      ["Connection", ({ name }) => link(name, "connections", name)],
      ["Its own name", (row) => row.user_provided_name],
      ["User", ({ user }) => user],
      ["Why", (row) => why(row)],
      ["What it has published waits in", (row) => places(row.waits_for)],
    ], "None: all are read."));
    renew(this.queues, queues, () => listing(queues, [
      ["Queue", ({ vhost, name }) => link(name, "queues", vhost ?? "", name)],
      ["Ready", ({ messages_ready: ready }) => number(ready), { numeric: true }],
      ["Consumers", ({ consumers }) => number(consumers), { numeric: true }],
      ["Whom", ({ held_publishings: held }) => channels(held)],
      ["Why", () => "its consumers take less than comes in: they are to catch up"],
    ], "None."));
    renew(this.actors, actors.map(({ id, state, mailbox_depth: depth }) => [id, state, depth]), () => listing(actors, [
      ["Actor", ({ id, kind, name }) => link(`${kind} ${name || "(default)"}`, "actors", id)],
      ["State", ({ state }) => state],
      ["Mailbox", ({ mailbox_depth: depth }) => number(depth), { numeric: true }],
      ["Oldest", ({ oldest_ms: oldest }) => duration(oldest), { numeric: true }],
    ], "None."));
  }
}

function sentence(alarms, connections, queues) {
  if (alarms.length) return `Whoever publishes has to wait: ${alarms.map(({ cause }) => cause).join(", ")}.`;
  if (connections.length) return `${number(connections.length)} ${connections.length === 1 ? "connection waits" : "connections wait"} until what they have published is taken in.`;
  return queues.length ? `${number(queues.length)} queues hold publishers back, so that consumers can catch up.` : "Nobody has to wait.";
}

function why({ state, blocked_by_credit: isHeld }) {
  if (state === "blocked") return "it published during an alarm: it is read no further";
  if (state === "blocking") return "an alarm: its next publish blocks it";
  return isHeld ? "it has no publish credit left" : text(state);
}

function places(waits) {
  if (!waits.length) return "–";
  const parts = waits.slice(0, 10).flatMap((place, index) => {
    const pages = { queue: ["queues", place.vhost ?? "", place.name], exchange: ["exchanges", place.vhost ?? "", exchangeName(place.name)] };
    const href = address(...(pages[place.kind] ?? ["actors", place.id]));
    const shown = element("a", { href }, `${place.kind} ${place.name || "(default)"}`);
    return [index ? "; " : "", shown, ` (${place.state === "paused" ? "paused" : place.why}, ${number(place.publishings)} publishings)`];
  });
  return element("span", {}, ...parts);
}

function channels(held) {
  const names = Object.keys(held ?? {});
  return names.length ? element("span", {}, ...names.flatMap((name, index) => [index ? ", " : "", link(name, "channels", name)])) : "–";
}
