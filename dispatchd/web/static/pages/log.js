// What the broker logs, as it comes.

import { api } from "../api.js";
import { button, element } from "../dom.js";
import { number, text } from "../format.js";

const LEVELS = ["DEBUG", "INFO", "WARNING", "ERROR"];
const KEPT_LINES = 2000;
const MOODS = { WARNING: "odd", ERROR: "bad", CRITICAL: "bad" };

export class Log {
  constructor({ live, signal, state }) {
    Object.assign(this, { signal, state, last: 0, isPaused: false });
    const level = element("select", { label: "Level" }, ...LEVELS.map((each) => element("option", { value: each }, each.toLowerCase())));
    level.value = state.get("level") ?? "INFO";
    level.addEventListener("change", () => {
      state.set("level", level.value);
      this.begin();
    });
    this.search = element("input", { type: "search", placeholder: "Filter lines…", value: state.get("text") ?? "", label: "Filter lines", data: { role: "filter" } });
    this.search.addEventListener("input", () => {
      state.set("text", this.search.value);
      for (const line of this.lines.children) this.filter(line);
    });
    const follow = button("Pause", () => {
      this.isPaused = !this.isPaused;
      follow.textContent = this.isPaused ? "Go on" : "Pause";
      if (!this.isPaused) this.fetch();
    });
    this.count = element("span", { className: "count" });
    this.lines = element("div", { className: "log", tabIndex: 0, role: "log", label: "Log" });
    this.element = element(
      "div",
      {},
      element("div", { className: "heading" }, element("h1", {}, "Log")),
      element("div", { className: "tools" }, this.search, level, follow, this.count),
      this.lines,
    );
    this.level = level;
    live.listen("log", ({ last }) => last > this.last && !this.isPaused && this.fetch(), signal);
    this.begin();
  }

  begin() {
    this.last = 0;
    this.lines.replaceChildren();
    this.fetch();
  }

  async fetch() {
    if (this.isFetching) return;
    this.isFetching = true;
    try {
      const lines = await api(`api/log?after=${this.last}&level=${this.level.value}`, { signal: this.signal });
      if (lines.length) this.add(lines);
    } catch (error) {
      if (!this.signal.aborted) this.count.textContent = error.message;
    } finally {
      this.isFetching = false;
    }
  }

  add(lines) {
    const isAtEnd = this.lines.scrollTop + this.lines.clientHeight > this.lines.scrollHeight - 30;
    for (const { number: place, at, level, logger, message } of lines) {
      this.last = Math.max(this.last, place);
      const when = new Date(at * 1000);
      const shown = element("time", { title: when.toISOString() }, `${when.toLocaleString("sv")}.${String(when.getMilliseconds()).padStart(3, "0")}`);
      const line = element("div", {}, shown, element("span", {}, level.toLowerCase()), element("span", {}, element("strong", {}, logger), " ", text(message)));
      line.dataset.mood = MOODS[level] ?? "";
      this.filter(line);
      this.lines.append(line);
    }
    while (this.lines.childElementCount > KEPT_LINES) this.lines.firstChild.remove();
    this.count.textContent = `${number(this.lines.childElementCount)} lines`;
    if (isAtEnd) this.lines.scrollTop = this.lines.scrollHeight;
  }

  filter(line) {
    line.hidden = !line.textContent.toLowerCase().includes(this.search.value.toLowerCase());
  }
}
