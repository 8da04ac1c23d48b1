// A vhost as a picture: exchanges, what they are bound to, queues, and who consumes from them. It is drawn once, in layers
// from left to right, and not before somebody asks again.

import { api, path } from "../api.js";
import { address, button, element, svg } from "../dom.js";
import { number, rate } from "../format.js";

const WIDTH = 200;
const HEIGHT = 44;
const ACROSS = 310;
const DOWN = 60;
const MARGIN = 24;
const SWEEPS = 6;
const SHOWN_CHARACTERS = 26;
const LABELLED_EDGES = 80;
const PAGES = { exchange: "exchanges", queue: "queues", connection: "connections" };

export class Topology {
  constructor({ signal, state }) {
    Object.assign(this, { signal, state });
    this.vhosts = element("select", { label: "Vhost" });
    this.vhosts.addEventListener("change", () => this.choose("vhost", this.vhosts.value));
    this.search = element("input", { type: "search", placeholder: "Only what has this in its name…", value: state.get("name") ?? "", label: "Filter names", data: { role: "filter" } });
    this.search.addEventListener("change", () => this.choose("name", this.search.value));
    this.note = element("span", { className: "count", role: "status" });
    this.picture = element("div", { className: "picture" });
    this.element = element(
      "div",
      {},
      element("div", { className: "heading" }, element("h1", {}, "Topology")),
      element("div", { className: "tools" }, this.vhosts, this.search, button("Draw again", () => this.draw()), this.note),
      this.picture,
      element("p", { className: "note" }, "Amber: an exchange that leads nowhere, or a queue nobody consumes from. Red: paused or in quarantine. The wider a line, the more comes in where it ends."),
    );
    this.begin();
  }

  async begin() {
    try {
      const vhosts = await api("api/vhosts", { signal: this.signal });
      this.vhosts.replaceChildren(...vhosts.map(({ name }) => element("option", { value: name }, name)));
      this.vhosts.value = this.state.get("vhost") || vhosts[0]?.name;
      await this.draw();
    } catch (error) {
      if (!this.signal.aborted) this.note.textContent = error.message;
    }
  }

  choose(key, value) {
    this.state.set(key, value);
    this.draw();
  }

  async draw() {
    try {
      const told = await api(`${path("topology", this.vhosts.value)}?name=${encodeURIComponent(this.search.value)}`, { signal: this.signal });
      this.show(told);
    } catch (error) {
      if (!this.signal.aborted) this.note.textContent = error.message;
    }
  }

  show({ total, nodes, edges, edges_total: all }) {
    if (!nodes.length) {
      this.note.textContent = total ? `${number(total)} exchanges and queues are too many for a picture: filter their names.` : "There is nothing of that name.";
      this.picture.replaceChildren();
      return;
    }
    const left = all > edges.length ? `, ${number(edges.length)} of ${number(all)} bindings` : "";
    this.note.textContent = `${number(nodes.length)} nodes${left}, as they were at ${new Date().toLocaleTimeString("sv")}`;
    this.picture.replaceChildren(drawn(nodes, edges, this.vhosts.value));
  }
}

// Exchanges are as far to the right as the longest way to them is; then come queues, then clients.
function layered(nodes, edges) {
  const layer = new Map(nodes.map(({ id, kind }) => [id, kind === "exchange" ? 0 : null]));
  const between = edges.filter(({ from, to }) => layer.get(from) === 0 && layer.get(to) === 0);
  const exchanges = nodes.filter(({ kind }) => kind === "exchange").length;
  for (let round = 0; round < Math.min(exchanges, 20); round += 1) {
    let isDone = true;
    for (const { from, to } of between) {
      if (layer.get(to) <= layer.get(from) && layer.get(from) < Math.min(exchanges, 8)) {
        layer.set(to, layer.get(from) + 1);
        isDone = false;
      }
    }
    if (isDone) break;
  }
  const last = Math.max(0, ...nodes.filter(({ kind }) => kind === "exchange").map(({ id }) => layer.get(id)));
  const layers = Array.from({ length: last + 3 }, () => []);
  for (const node of nodes) layers[node.kind === "exchange" ? layer.get(node.id) : node.kind === "queue" ? last + 1 : last + 2].push(node);
  return layers.filter((each) => each.length);
}

// Each node goes to the middle of those that it is bound to, a few times over: lines cross less.
function sorted(layers, edges) {
  const neighbours = new Map();
  for (const { from, to } of edges) {
    for (const [one, other] of [[from, to], [to, from]]) neighbours.set(one, [...(neighbours.get(one) ?? []), other]);
  }
  for (const layer of layers) layer.sort((a, b) => a.name.localeCompare(b.name));
  for (let sweep = 0; sweep < SWEEPS; sweep += 1) {
    const place = new Map(layers.flatMap((layer) => layer.map(({ id }, index) => [id, (index + 0.5) / layer.length])));
    for (const layer of sweep % 2 ? [...layers].reverse() : layers) {
      const middle = new Map(
        layer.map(({ id }) => {
          const places = (neighbours.get(id) ?? []).map((other) => place.get(other));
          return [id, places.length ? places.reduce((sum, each) => sum + each, 0) / places.length : place.get(id)];
        }),
      );
      layer.sort((a, b) => middle.get(a.id) - middle.get(b.id));
      layer.forEach(({ id }, index) => place.set(id, (index + 0.5) / layer.length));
    }
  }
}

// Where a line passes a layer it has a place of its own there, shared by all lines from one node: none is behind a box.
function withWays(layers, edges) {
  const layerOf = new Map(layers.flatMap((layer, column) => layer.map(({ id }) => [id, column])));
  const steps = [];
  for (const edge of edges) {
    edge.ways = [];
    let before = edge.from;
    for (let column = layerOf.get(edge.from) + 1; column < layerOf.get(edge.to); column += 1) {
      const id = `way:${column}:${edge.from}`;
      if (!layerOf.has(id)) {
        layerOf.set(id, column);
        layers[column].push({ id, kind: "way", name: edge.from });
      }
      edge.ways.push(id);
      steps.push({ from: before, to: id });
      before = id;
    }
    steps.push({ from: before, to: edge.to });
  }
  return steps;
}

function drawn(nodes, edges, vhost) {
  const layers = layered(nodes, edges);
  sorted(layers, withWays(layers, edges));
  const tallest = Math.max(...layers.map((layer) => layer.length));
  const width = (layers.length - 1) * ACROSS + WIDTH + 2 * MARGIN;
  const height = tallest * DOWN + 2 * MARGIN;
  const places = new Map();
  layers.forEach((layer, column) => {
    const gap = (height - 2 * MARGIN) / layer.length;
    layer.forEach(({ id }, row) => places.set(id, [MARGIN + column * ACROSS, MARGIN + gap * (row + 0.5) - HEIGHT / 2]));
  });
  const fastest = Math.max(1, ...edges.map((edge) => edge.rate));
  const leads = new Set(edges.map(({ from }) => from));
  const picture = svg("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `What leads where in ${vhost}` });
  for (const edge of edges) picture.append(line(edge, places, fastest, edges.length <= LABELLED_EDGES));
  for (const node of nodes) picture.append(box(node, places.get(node.id), vhost, leads.has(node.id)));
  return picture;
}

function line({ from, to, ways, label, rate: speed }, places, fastest, isLabelled) {
  const [x1, y1] = places.get(from);
  const [x2, y2] = places.get(to);
  const isBack = x2 <= x1;
  const start = [x1 + (isBack ? WIDTH / 2 : WIDTH), y1 + (isBack ? HEIGHT : HEIGHT / 2)];
  const end = [x2 + (isBack ? WIDTH / 2 : 0), y2 + (isBack ? HEIGHT : HEIGHT / 2)];
  let way = `M${start}`;
  if (isBack) {
    way += `C${start[0]} ${start[1] + 70} ${end[0]} ${end[1] + 70} ${end}`;
  } else {
    let [x, y] = start;
    for (const [left, top] of ways.map((id) => places.get(id))) {
      way += `C${x + 50} ${y} ${left - 50} ${top + HEIGHT / 2} ${left} ${top + HEIGHT / 2}h${WIDTH}`;
      [x, y] = [left + WIDTH, top + HEIGHT / 2];
    }
    way += `C${x + 60} ${y} ${end[0] - 60} ${end[1]} ${end}`;
  }
  const drawnLine = svg("path", { d: way, "stroke-width": 1 + 4 * Math.sqrt(speed / fastest) * (speed > 0) });
  drawnLine.append(svg("title", {}, `${label || "(no key)"}${speed ? `, ${rate(speed)}/s` : ""}`));
  const group = svg("g", {}, drawnLine);
  if (isLabelled && label) group.append(svg("text", { x: end[0] - 8, y: end[1] - 5, "text-anchor": "end", class: "faint" }, cut(label, 20)));
  return group;
}

function box(node, [x, y], vhost, leads) {
  const { kind, name } = node;
  const shownName = kind === "connection" ? node.own_name || name : name;
  const href = kind === "connection" ? address(PAGES[kind], name) : address(PAGES[kind], vhost, name);
  const details = {
    exchange: () => `${node.type} exchange${node.rate ? ` · ${rate(node.rate)}/s` : ""}`,
    queue: () => `${number(node.messages_ready)} ready · ${number(node.messages_unacknowledged)} out${node.rate ? ` · ${rate(node.rate)}/s` : ""}`,
    connection: () => "client",
  }[kind]();
  const isHeld = ["paused", "quarantined"].includes(node.state);
  const isIdle = (kind === "exchange" && !leads) || (kind === "queue" && !node.consumers);
  const shown = svg(
    "a",
    { href, class: isHeld ? "bad" : isIdle ? "odd" : "" },
    svg("title", {}, name),
    svg("rect", { x, y, width: WIDTH, height: HEIGHT, rx: kind === "queue" ? 4 : 20 }),
    svg("text", { x: x + WIDTH / 2, y: y + 19, "text-anchor": "middle", "font-weight": 600 }, cut(shownName, SHOWN_CHARACTERS)),
    svg("text", { x: x + WIDTH / 2, y: y + 34, "text-anchor": "middle", class: "faint" }, details),
  );
  return shown;
}

function cut(words, most) {
  return words.length > most ? `${words.slice(0, most - 1)}…` : words;
}
