// A long list, of which the broker sends the page that is looked at: filtered and sorted there, drawn in place here.
//
// A column is {key, title, show(row), sort, numeric, hint, link(row), hidden}: `sort` is the name that the broker knows it
// by, `show` gives text. Rows are told apart by `id`.

import { api } from "./api.js";
import { button, element } from "./dom.js";
import { number, text } from "./format.js";

const REFRESH_MS = 2000;
const TYPING_MS = 250;
const SIZES = [50, 100, 500];
const NOTHING = /^(–|0( B| %)?)$/;

export class PagedTable {
  // `ask(state)` is the address of a page, and `page(told)` makes of an answer what RabbitMQ's lists are; without them it is
  // such a list, at the path `list`. `state` is what the address of the page says; `bulk` are [title, function of the chosen
  // rows]; `extra` are more elements for the line of tools.
  constructor({ list, ask, page, noun, columns, state, signal, bulk = [], rowClass = () => "", sortedBy = columns[0].sort, isRegexAllowed = true, extra = [], hear = () => {} }) {
    Object.assign(this, { noun, columns, state, signal, bulk, rowClass, sortedBy, hear });
    this.query = () => (ask ? ask(state) : rabbitQuery(list, state));
    this.page = page ?? ((told) => told);
    this.chosen = new Map();
    this.drawn = new Map();
    this.hidden = new Set(remembered(noun) ?? columns.filter((column) => column.hidden).map(({ key }) => key));
    this.search = element("input", { type: "search", placeholder: `Filter ${noun}…`, value: state.get("name") ?? "", label: `Filter ${noun}`, data: { role: "filter" } });
    this.search.addEventListener("input", () => this.typed());
    const regex = element("input", { type: "checkbox", checked: state.get("regex") === "1" });
    regex.addEventListener("change", () => this.choose({ regex: regex.checked ? "1" : "", page: "" }));
    this.count = element("span", { className: "count", role: "status" });
    this.wrong = element("p", { className: "wrong", role: "alert" });
    this.bulkAt = element("div", { className: "bulk", hidden: true });
    this.tableAt = element("div", { className: "scroller" });
    this.pagerAt = element("div", { className: "pager" });
    const tools = element(
      "div",
      { className: "tools" },
      this.search,
      isRegexAllowed ? element("label", { className: "check", title: "The filter is a regular expression" }, regex, " regex") : null,
      this.count,
      element("span", { className: "grow" }),
      ...extra,
      this.makePicker(),
    );
    this.element = element("div", { className: "paged" }, tools, this.wrong, this.bulkAt, this.tableAt, this.pagerAt);
    this.build();
    this.keepPolling();
  }

  typed() {
    clearTimeout(this.typing);
    this.typing = setTimeout(() => this.choose({ name: this.search.value, page: "" }), TYPING_MS);
  }

  choose(changes) {
    for (const [key, value] of Object.entries(changes)) this.state.set(key, value);
    this.poll();
  }

  makePicker() {
    const boxes = this.columns.filter((column) => !column.link).map((column) => {
      const box = element("input", { type: "checkbox", checked: !this.hidden.has(column.key) });
      box.addEventListener("change", () => {
        if (box.checked) this.hidden.delete(column.key);
        else this.hidden.add(column.key);
        remember(this.noun, [...this.hidden]);
        this.build();
        if (this.told) this.draw();
      });
      return element("label", { className: "check" }, box, ` ${column.title}`);
    });
    return element("details", { className: "picker" }, element("summary", {}, "Columns"), element("div", {}, ...boxes));
  }

  // Head and body, anew: when other columns are shown.
  build() {
    this.shownColumns = this.columns.filter((column) => !this.hidden.has(column.key));
    this.drawn = new Map();
    this.headings = this.shownColumns.map((column) => {
      const title = column.sort ? button(column.title, () => this.sortBy(column), { title: column.hint }) : element("span", { title: column.hint }, column.title);
      return element("th", { className: column.numeric ? "numeric" : "", scope: "col" }, title);
    });
    const all = this.bulk.length ? [element("th", { className: "choice" }, this.makeChooseAll())] : [];
    this.body = element("tbody");
    const table = element("table", { className: "rows" }, element("thead", {}, element("tr", {}, ...all, ...this.headings)), this.body);
    this.tableAt.replaceChildren(table);
    this.body.addEventListener("keydown", (event) => this.moved(event));
  }

  makeChooseAll() {
    const box = (this.all = element("input", { type: "checkbox", label: "Choose all of this page" }));
    box.addEventListener("change", () => {
      this.chosen = new Map(box.checked ? this.told.items.map((row) => [row.id, row]) : []);
      this.draw();
    });
    return box;
  }

  sortBy(column) {
    const isSame = (this.state.get("sort") || this.sortedBy) === column.sort;
    const isDown = isSame ? this.state.get("down") !== "1" : Boolean(column.numeric);
    this.choose({ sort: column.sort, down: isDown ? "1" : "", page: "" });
  }

  async keepPolling() {
    while (!this.signal.aborted) {
      if (!document.hidden) await this.poll();
      await new Promise((wake) => setTimeout(wake, REFRESH_MS));
    }
  }

  async poll() {
    const asked = (this.asked = this.query());
    try {
      const told = await api(asked, { signal: this.signal });
      if (this.asked !== asked || this.signal.aborted) return;
      this.told = this.page(told);
      this.hear(told);
      this.wrong.textContent = "";
      this.draw();
    } catch (error) {
      if (this.signal.aborted || this.asked !== asked) return;
      if (error.message.startsWith("page_out_of_range")) this.choose({ page: "" });
      else this.wrong.textContent = error.message;
    }
  }

  draw() {
    const { items, filtered_count: filtered, total_count: total, page, page_count: pages, page_size: size } = this.told;
    this.count.textContent = filtered === total ? `${number(total)} ${this.noun}` : `${number(filtered)} of ${number(total)} ${this.noun}`;
    this.shownColumns.forEach((column, index) => {
      const isSorted = column.sort && (this.state.get("sort") || this.sortedBy) === column.sort;
      const order = isSorted ? (this.state.get("down") === "1" ? "descending" : "ascending") : "none";
      this.headings[index].setAttribute("aria-sort", order);
    });
    this.drawRows(items);
    this.drawBulk(items);
    this.drawPager(page, pages, size);
  }

  drawRows(items) {
    const before = this.drawn;
    this.drawn = new Map();
    let place = this.body.firstChild;
    for (const row of items) {
      const drawn = before.get(row.id) ?? this.makeRow(row);
      before.delete(row.id);
      this.drawn.set(row.id, drawn);
      this.fill(drawn, row);
      if (drawn.line === place) place = place.nextSibling;
      else this.body.insertBefore(drawn.line, place);
    }
    while (place) {
      const gone = place;
      place = place.nextSibling;
      gone.remove();
    }
    if (!items.length) {
      const words = this.state.get("name") ? `No ${this.noun} match this filter.` : `There are no ${this.noun}.`;
      const cell = element("td", { className: "empty", colSpan: this.shownColumns.length + Boolean(this.bulk.length) }, words);
      this.body.replaceChildren(element("tr", {}, cell));
    }
  }

  makeRow(row) {
    const cells = this.shownColumns.map((column) => element("td", { className: column.numeric ? "numeric" : "" }));
    const line = element("tr", {}, ...cells);
    const drawn = { line, cells, row };
    if (this.bulk.length) {
      const box = (drawn.box = element("input", { type: "checkbox" }));
      box.addEventListener("change", () => {
        if (box.checked) this.chosen.set(drawn.row.id, drawn.row);
        else this.chosen.delete(drawn.row.id);
        this.drawBulk(this.told.items);
      });
      line.prepend(element("td", { className: "choice" }, box));
    }
    line.addEventListener("click", (event) => {
      if (event.target.closest("a, button, input, label") || !getSelection().isCollapsed) return;
      line.querySelector("a")?.click();
    });
    this.shownColumns.forEach((column, index) => {
      if (column.link) cells[index].append(element("a"));
    });
    return drawn;
  }

  fill(drawn, row) {
    drawn.row = row;
    drawn.line.className = this.rowClass(row);
    if (drawn.box) {
      drawn.box.checked = this.chosen.has(row.id);
      drawn.box.setAttribute("aria-label", `Choose ${row.name}`);
    }
    this.shownColumns.forEach((column, index) => {
      const shown = column.show ? column.show(row) : text(row[column.key]);
      const cell = drawn.cells[index];
      const holder = column.link ? cell.firstChild : cell;
      if (holder.textContent !== shown) {
        holder.textContent = shown;
        cell.title = column.numeric ? "" : shown;
      }
      if (column.link) holder.href = column.link(row);
      cell.classList.toggle("none", NOTHING.test(shown));
      if (column.dot) cell.classList.add("dotted");
      if (column.mood) cell.dataset.mood = column.mood(row) ?? "";
    });
  }

  // Arrow keys go from row to row, by the links in them.
  moved(event) {
    const step = { ArrowDown: 1, ArrowUp: -1, j: 1, k: -1 }[event.key];
    if (!step || event.target.tagName === "INPUT") return;
    const links = [...this.body.querySelectorAll("tr > td > a:first-child")];
    const next = links[links.indexOf(event.target) + step];
    if (next) {
      event.preventDefault();
      next.focus();
    }
  }

  drawBulk(items) {
    if (!this.bulk.length) return;
    const there = new Set(items.map((row) => row.id));
    for (const id of this.chosen.keys()) if (!there.has(id)) this.chosen.delete(id);
    this.all.checked = items.length > 0 && this.chosen.size === items.length;
    this.bulkAt.hidden = !this.chosen.size;
    if (this.bulkAt.hidden) return;
    this.bulkAt.replaceChildren(
      element("span", {}, `${number(this.chosen.size)} chosen`),
      ...this.bulk.map(([title, act]) => button(title, () => act([...this.chosen.values()], () => this.poll()))),
    );
  }

  drawPager(page, pages, size) {
    const key = `${page} ${pages} ${size}`;
    if (this.pagerShown === key) return;
    this.pagerShown = key;
    const go = (to, title, words) => button(title, () => this.choose({ page: to === 1 ? "" : to }), { disabled: to < 1 || to > pages || to === page, label: words });
    const sizes = element("select", { label: "Rows on a page" }, ...SIZES.map((each) => element("option", { value: each }, `${each} rows`)));
    sizes.value = size;
    sizes.addEventListener("change", () => this.choose({ size: sizes.value, page: "" }));
    this.pagerAt.replaceChildren(
      go(1, "«", "First page"),
      go(page - 1, "‹", "Page before"),
      element("span", {}, `Page ${number(page)} of ${number(pages)}`),
      go(page + 1, "›", "Next page"),
      go(pages, "»", "Last page"),
      sizes,
    );
  }
}

function rabbitQuery(list, state) {
  const query = new URLSearchParams({ page: state.get("page") || 1, page_size: state.get("size") || 100 });
  if (state.get("name")) query.set("name", state.get("name"));
  if (state.get("regex") === "1") query.set("use_regex", "true");
  if (state.get("sort")) query.set("sort", state.get("sort"));
  if (state.get("down") === "1") query.set("sort_reverse", "true");
  return `${list}?${query}`;
}

function remembered(noun) {
  try {
    return JSON.parse(localStorage.getItem(`dispatchd-hidden-${noun}`));
  } catch {
    return null;
  }
}

function remember(noun, hidden) {
  try {
    localStorage.setItem(`dispatchd-hidden-${noun}`, JSON.stringify(hidden));
  } catch {
    // then it holds until the page is loaded again
  }
}
