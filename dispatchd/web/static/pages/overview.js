// What the broker holds and how fast it moves.

import { api, keepPolling } from "../api.js";
import { Chart, spanButtons } from "../chart.js";
import { card, element, facts, link, listing, renew } from "../dom.js";
import { bytes, duration, number, rate, text, time } from "../format.js";

const BUSIEST_MS = 2000;

const TILES = [
  ["Ready", ({ totals }) => number(totals.messages_ready), "#queues?sort=messages_ready&down=1", "messages that wait in queues"],
  ["Unacked", ({ totals }) => number(totals.messages_unacknowledged), "#queues?sort=messages_unacknowledged&down=1", "delivered, and not acknowledged yet"],
  ["In /s", ({ rates }) => rate(rates.published), "#queues?sort=message_stats.publish_details.rate&down=1", "messages that came into queues"],
  ["Out /s", ({ rates }) => rate(rates.delivered), "#queues?sort=message_stats.deliver_get_details.rate&down=1", "messages that were delivered"],
  ["Acked /s", ({ rates }) => rate(rates.acknowledged), "#queues?sort=message_stats.ack_details.rate&down=1", "messages that were acknowledged"],
  ["Connections", ({ totals }) => number(totals.connections), "#connections"],
  ["Channels", ({ totals }) => number(totals.channels), "#channels"],
  ["Exchanges", ({ totals }) => number(totals.exchanges), "#exchanges"],
  ["Queues", ({ totals }) => number(totals.queues), "#queues"],
  ["Consumers", ({ totals }) => number(totals.consumers), "#queues?sort=consumers&down=1"],
  ["Loop lag", ({ lag_ms: lag }) => duration(lag), "#actors?sort=busy&down=1", "how late the loop was the last time that it was looked at: what everybody waits"],
  ["Memory", ({ resources }) => (resources ? bytes(resources.memory_used) : "–"), "#flow", "of the process"],
];

export class Overview {
  constructor({ live, signal }) {
    this.figures = TILES.map(() => element("strong", {}, "–"));
    const tiles = TILES.map(([title, , href, hint], index) =>
      element("a", { className: "tile", href, title: hint }, element("span", {}, title), this.figures[index]),
    );
    this.charts = [
      new Chart("Messages in queues", [["messages_ready", "Ready"], ["messages_unacknowledged", "Unacked"]], number, signal),
      new Chart("Messages per second", [["published", "In"], ["delivered", "Out"], ["acknowledged", "Acked"], ["redelivered", "Redelivered"]], rate, signal),
      new Chart("Bytes per second", [["recv_oct", "From clients"], ["send_oct", "To clients"]], bytes, signal, 1024),
    ];
    this.actors = element("div");
    this.persistence = element("div");
    this.resources = element("div");
    this.about = element("div");
    this.busiest = element("div");
    this.busiestCard = card("Busiest actors", this.busiest);
    this.busiestCard.hidden = true; // until it is known: not everybody may see them
    const charts = element("div", { className: "cards three" }, ...this.charts.map((chart) => chart.element));
    const cards = [card("Actors", this.actors), card("Persistence", this.persistence), card("Resources", this.resources)];
    this.ofNode = [charts, ...cards];
    this.element = element(
      "div",
      {},
      element("div", { className: "heading" }, element("h1", {}, "Overview"), spanButtons()),
      element("div", { className: "tiles" }, ...tiles),
      charts,
      element(
        "div",
        { className: "masonry" },
        this.busiestCard,
        ...cards,
        card("Broker", this.about),
      ),
    );
    live.listen("overview", (told) => told.error || this.update(told), signal);
    keepPolling(signal, BUSIEST_MS, async () => {
      const { items } = await api("api/actors?sort=busy&order=desc&limit=5", { signal });
      this.busiestCard.hidden = false;
      renew(this.busiest, items.map(({ id, busy_percent: busy, handled_per_second: handled }) => [id, busy, handled]), () => listing(items, [
        ["Actor", (each) => element("span", {}, element("small", { className: "note" }, each.kind), " ", link(each.name || "(default)", "actors", each.id))],
        ["Busy", ({ busy_percent: busy }) => `${rate(busy)} %`, { numeric: true }],
        ["Handled /s", ({ handled_per_second: handled }) => rate(handled), { numeric: true }],
      ]));
    });
  }

  update(told) {
    TILES.forEach(([, show], index) => (this.figures[index].textContent = show(told)));
    const { history, actors, persistence, resources } = told; // not everybody is told of the node
    for (const element of this.ofNode) element.hidden = !actors;
    if (history) for (const chart of this.charts) chart.update(history);
    if (actors) renew(this.actors, actors, () => facts(actorFacts(actors)));
    if (persistence) renew(this.persistence, persistence, () => facts(persistenceFacts(persistence)));
    if (resources) renew(this.resources, resources, () => facts(resourceFacts(resources)));
    renew(this.about, told.uptime_ms, () => facts(brokerFacts(told)));
  }
}

function actorFacts({ total, running, paused, quarantined, failures, restarts, mailbox_depth: depth, deepest }) {
  return [
    ["all", number(total)],
    ["running", number(running)],
    ["paused", number(paused)],
    ["quarantined", number(quarantined)],
    ["failures", number(failures)],
    ["restarts", number(restarts)],
    ["messages in mailboxes", number(depth)],
    ["deepest mailbox", deepest ? link(`${number(deepest.mailbox_depth)} of ${deepest.kind} ${deepest.name}`, "actors", deepest.id) : "–"],
  ];
}

function persistenceFacts({ id, actor_state, name, mailbox_depth: depth, state, ...figures }) {
  const pairs = Object.entries(figures).map(([key, value]) => {
    const words = key.replaceAll("_", " ");
    if (typeof value !== "number") return [words, value];
    if (key.includes("bytes")) return [words, bytes(value)];
    return key.endsWith("_ms") ? [words.slice(0, -3), duration(value)] : [words, number(value)];
  });
  return pairs.length ? [...pairs, ["messages in its mailbox", number(depth)]] : [["nothing", "is known of it"]];
}

function resourceFacts({ memory_used: used, memory_high_watermark: most, disk_free: free, disk_free_limit: least, alarms }) {
  return [
    ["memory used", bytes(used)],
    ["memory high watermark", bytes(most)],
    ["disk free", bytes(free)],
    ["disk free limit", bytes(least)],
    ["alarms", alarms],
  ];
}

function brokerFacts({ product, version, compiled, python, uptime_ms: uptime, started_at: started, listeners }) {
  return [
    ["version", `${product} ${version}`],
    ["wire and model", compiled ? "compiled" : "interpreted"],
    ["Python", python],
    ["up", duration(uptime)],
    ["since", time(started)],
    ...(listeners ?? []).map(({ protocol, address, host, port }) => [`${text(protocol)} listens`, `${address ?? host ?? ""}:${port}`]),
  ];
}
