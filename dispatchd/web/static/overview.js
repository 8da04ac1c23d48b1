// The first section: what the broker holds and how fast it moves, with a few minutes of history.

import { element, facts } from "./dom.js";
import { bytes, duration, number, rate, text, time } from "./format.js";
import { Rates } from "./rates.js";

const HISTORY_MS = 5 * 60 * 1000;
const WIDTH = 600;
const HEIGHT = 120;
const SVG = "http://www.w3.org/2000/svg";

const COUNTS = [
  ["connections", "Connections", "#connections"],
  ["channels", "Channels", "#channels"],
  ["exchanges", "Exchanges", "#exchanges"],
  ["queues", "Queues", "#queues"],
  ["consumers", "Consumers", "#queues?sort=-consumers"],
];
const RATES = [
  ["published", "Published", "a"],
  ["delivered", "Delivered", "b"],
  ["acknowledged", "Acknowledged", "c"],
];
const DEPTHS = [
  ["messages_ready", "Ready", "a"],
  ["messages_unacknowledged", "Unacknowledged", "b"],
];

export class Overview {
  constructor() {
    this.rates = new Rates(RATES.map(([field]) => field));
    this.history = [];
    this.counts = tiles(COUNTS);
    this.speeds = chart("Messages per second", RATES, rate);
    this.depths = chart("Messages in queues", DEPTHS, number);
    this.actors = element("div", { className: "card" });
    this.about = element("div", { className: "card" });
    this.persistence = element("div", { className: "card" });
    this.warnings = element("div", { className: "warnings" });
    this.element = element(
      "div",
      { className: "view" },
      this.warnings,
      this.counts.element,
      element("div", { className: "cards two" }, this.speeds.element, this.depths.element),
      element("div", { className: "cards three" }, this.actors, this.persistence, this.about),
    );
  }

  async poll(get) {
    const data = await get("api/overview");
    const now = performance.now();
    const [totals] = this.rates.add([{ ...data.totals, id: "totals" }], now);
    const sample = { now, ...totals };
    for (const [field] of RATES) sample[field] = totals.rates[field];
    this.history.push(sample);
    while (now - this.history[0].now > HISTORY_MS) this.history.shift();
    this.counts.update(totals);
    this.speeds.update(this.history, sample);
    this.depths.update(this.history, sample);
    this.showActors(data.actors ?? {});
    this.showPersistence(data.persistence ?? {});
    this.showAbout(data);
    this.showWarnings(data);
    return data;
  }

  showWarnings({ actors = {}, totals = {} }) {
    const warnings = [];
    if (actors.quarantined) {
      warnings.push(["bad", `${several(actors.quarantined, "actor")} in quarantine after repeated failures`]);
    }
    if (actors.paused) warnings.push(["odd", `${several(actors.paused, "actor")} paused`]);
    if (totals.late) warnings.push(["odd", `No answer from ${several(totals.late, "queue")}: missing in the totals`]);
    this.warnings.replaceChildren(
      ...warnings.map(([className, words]) =>
        element("a", { className, href: "#actors?sort=-state" }, words),
      ),
    );
  }

  showActors(actors) {
    const deepest = actors.deepest;
    this.actors.replaceChildren(
      element("h2", {}, "Actors"),
      facts([
        ["all", number(actors.total)],
        ["running", number(actors.running)],
        ["paused", number(actors.paused)],
        ["quarantined", number(actors.quarantined)],
        ["failures", number(actors.failures)],
        ["restarts", number(actors.restarts)],
        ["waiting messages", number(actors.mailbox_depth)],
        ["deepest mailbox", deepest ? `${number(deepest.mailbox_depth)} (${deepest.kind} “${deepest.name}”)` : null],
      ]),
    );
  }

  showPersistence({ id, actor_state, name, mailbox_depth, state, ...figures }) {
    const pairs = Object.entries(figures).map(([key, value]) => {
      if (typeof value !== "number") return [key, value];
      if (key.startsWith("bytes") || key.endsWith("bytes")) return [key, bytes(value)];
      return key.endsWith("_ms") ? [key.slice(0, -3), duration(value)] : [key, number(value)];
    });
    if (state) pairs.unshift(["state", state]);
    if (mailbox_depth !== undefined) pairs.push(["mailbox depth", number(mailbox_depth)]);
    this.persistence.replaceChildren(
      element("h2", {}, "Persistence"),
      pairs.length ? facts(pairs) : element("p", { className: "note" }, "Nothing is known of it."),
    );
  }

  showAbout({ at, totals, actors, persistence, compiled, started_at, uptime_ms, listeners, ...other }) {
    const pairs = Object.entries(other);
    const listening = Array.isArray(listeners)
      ? listeners.map((each) => (each && typeof each === "object" ? Object.values(each).map(String).join(" ") : text(each)))
      : listeners;
    pairs.push(
      ["wire and model", compiled === true ? "compiled" : compiled === false ? "interpreted" : compiled],
      ["up", duration(uptime_ms)],
      ["since", typeof started_at === "number" ? time(started_at > 1e11 ? started_at : started_at * 1000) : started_at],
      ["listeners", listening],
    );
    this.about.replaceChildren(element("h2", {}, "Broker"), facts(pairs));
  }
}

function several(count, noun) {
  return `${number(count)} ${noun}${count === 1 ? "" : "s"}`;
}

function tiles(specifications) {
  const figures = specifications.map(() => element("strong", {}, "–"));
  const links = specifications.map(([, title, href], index) =>
    element("a", { className: "tile", href }, figures[index], element("span", {}, title)),
  );
  return {
    element: element("div", { className: "tiles" }, ...links),
    update: (totals) => specifications.forEach(([key], index) => (figures[index].textContent = number(totals[key]))),
  };
}

// Lines over the time of the history; the colours are those of the style sheet's classes.
function chart(title, lines, show) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  const paths = lines.map(([, , colour]) => {
    const path = document.createElementNS(SVG, "path");
    path.setAttribute("class", `line ${colour}`);
    svg.append(path);
    return path;
  });
  const figures = lines.map(() => element("strong", {}, "–"));
  const legend = lines.map(([, name, colour], index) =>
    element("span", { className: `key ${colour}` }, name, figures[index]),
  );
  const highest = element("span", { className: "highest" });
  return {
    element: element(
      "div",
      { className: "card chart" },
      element("h2", {}, title, highest),
      svg,
      element("div", { className: "legend" }, ...legend),
    ),
    update(history, sample) {
      const top = Math.max(1, ...history.flatMap((each) => lines.map(([field]) => each[field] ?? 0)));
      const span = Math.max(60000, sample.now - history[0].now);
      highest.textContent = `highest ${show(top)}`;
      lines.forEach(([field], index) => {
        figures[index].textContent = show(sample[field]);
        let path = "";
        for (const each of history) {
          if (typeof each[field] !== "number") continue;
          const x = WIDTH - ((sample.now - each.now) / span) * WIDTH;
          const y = HEIGHT - 2 - (each[field] / top) * (HEIGHT - 6);
          path += `${path ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`;
        }
        paths[index].setAttribute("d", path);
      });
    },
  };
}
