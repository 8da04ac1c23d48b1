// Lines over time, of the history that the broker keeps: full from the first look on.

import { button, element } from "./dom.js";

export const SPANS = [["minute", "1 min"], ["ten_minutes", "10 min"], ["hour", "60 min"]];
const SECONDS = { minute: 59, ten_minutes: 590, hour: 3540 };
const HEIGHT = 170;
const COLOURS = ["--a", "--b", "--c", "--d"];
const KEY = "dispatchd-span";

let span = SPANS.some(([name]) => name === stored()) ? stored() : "ten_minutes";
const charts = new Set();

function stored() {
  try {
    return localStorage.getItem(KEY);
  } catch {
    return null;
  }
}

// The buttons that say how much time all charts show.
export function spanButtons() {
  const buttons = SPANS.map(([name, title]) =>
    button(title, () => {
      span = name;
      try {
        localStorage.setItem(KEY, name);
      } catch {
        // then it holds until the page is loaded again
      }
      mark();
      for (const chart of charts) chart.draw();
    }),
  );
  const mark = () => buttons.forEach((each, index) => each.setAttribute("aria-pressed", SPANS[index][0] === span));
  mark();
  return element("div", { className: "segmented", role: "group", label: "Time shown" }, ...buttons);
}

function clock(seconds) {
  const words = new Date(seconds * 1000).toLocaleTimeString("sv");
  return span === "minute" ? words : words.slice(0, 5);
}

export class Chart {
  // `lines` are [name in the history, title]; `show` writes a value; the scale goes up to `least` at least.
  constructor(title, lines, show, signal, least = 4) {
    this.least = least;
    this.lines = lines;
    this.show = show;
    this.figures = lines.map(() => element("strong", {}, "–"));
    const legend = lines.map(([, name], index) => element("span", { className: `key k${index}` }, name, this.figures[index]));
    this.plotAt = element("div", { className: "plot" });
    this.element = element("section", { className: "card chart" }, element("h2", {}, title), this.plotAt, element("div", { className: "legend" }, ...legend));
    charts.add(this);
    const resized = new ResizeObserver(() => this.resize());
    resized.observe(this.plotAt);
    const rethemed = () => this.rebuild();
    addEventListener("themechange", rethemed);
    signal.addEventListener("abort", () => {
      charts.delete(this);
      resized.disconnect();
      removeEventListener("themechange", rethemed);
      this.plot?.destroy();
    });
  }

  update(history) {
    this.history = history;
    this.draw();
  }

  draw() {
    const { history } = this;
    if (!history) return;
    const columns = [history[span][0], ...this.lines.map(([name]) => history[span][history.names.indexOf(name) + 1] ?? [])];
    this.columns = columns;
    if (!columns[0].length) return;
    if (this.plot) this.plot.setData(columns);
    else this.build();
    this.legend(null);
  }

  legend(index) {
    this.figures.forEach((figure, line) => {
      const values = this.columns[line + 1];
      figure.textContent = this.show(values[index ?? values.length - 1]);
    });
  }

  build() {
    if (!window.uPlot || !this.plotAt.clientWidth) return;
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(name).trim();
    const axis = { stroke: colour("--soft"), grid: { stroke: colour("--grid"), width: 1 }, ticks: { show: false }, font: "11px system-ui, sans-serif" };
    const series = this.lines.map((_, index) => ({
      stroke: colour(COLOURS[index]),
      width: 2,
      fill: this.lines.length === 1 ? `${colour(COLOURS[index])}22` : undefined,
      points: { show: (_plot, _line, first, last) => last - first < 3, size: 5 },
    }));
    this.plot = new window.uPlot(
      {
        width: this.plotAt.clientWidth,
        height: HEIGHT,
        legend: { show: false },
        cursor: { sync: { key: "time" }, drag: { x: false, y: false }, points: { size: 7 } },
        scales: {
          x: { range: (_plot, _least, last) => [last - SECONDS[span], last + SECONDS[span] / 60] },
          y: { range: (_plot, _least, most) => [0, Math.max(most * 1.1, this.least)] },
        },
        axes: [
          { ...axis, space: 70, size: 30, values: (_plot, moments) => moments.map(clock) },
          { ...axis, size: 58, values: (_plot, values) => values.map((value) => this.show(value)) },
        ],
        series: [{}, ...series],
        hooks: { setCursor: [(plot) => this.columns && this.legend(plot.cursor.idx)] },
      },
      this.columns,
      this.plotAt,
    );
  }

  rebuild() {
    this.plot?.destroy();
    this.plot = null;
    this.draw();
  }

  resize() {
    if (this.plot) this.plot.setSize({ width: this.plotAt.clientWidth, height: HEIGHT });
    else this.draw();
  }
}
