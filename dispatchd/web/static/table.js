// A live table: sorted by a click on a column, filtered, updated in place, and with details that open below a row.
//
// A column is {key, title, value(row), show(value, row), numeric, narrow, hint}; rows are told apart by `id`. The details
// of a row are parts: [the data that the part shows, a function that makes its elements].

import { element } from "./dom.js";
import { number, text } from "./format.js";

const SHOWN_AT_FIRST = 200;
const SHOWN_MORE = 500;
const NOTHING = /^(–|0( B| %)?)$/;

export class Table {
  constructor({ title, columns, state, detail, rowClass, haystack, choices, tree }) {
    Object.assign(this, { noun: title.toLowerCase(), columns, state, detail, rowClass, haystack, choices, tree });
    this.rows = [];
    this.drawn = new Map();
    this.open = new Set((state.get("open") ?? "").split(",").filter(Boolean).map(Number));
    this.limit = SHOWN_AT_FIRST;
    this.element = element("div", { className: "view" }, this.makeTools(), this.makeTable(), this.makeMore());
  }

  makeTools() {
    this.search = element("input", { type: "search", placeholder: "Filter by name…", value: this.state.get("text") ?? "" });
    this.search.setAttribute("aria-label", "Filter");
    this.search.addEventListener("input", () => this.choose("text", this.search.value));
    this.count = element("span", { className: "count" });
    const tools = element("div", { className: "tools" }, this.search);
    if (this.choices) {
      this.select = element("select");
      this.select.setAttribute("aria-label", this.choices.title);
      this.select.addEventListener("change", () => this.choose("kind", this.select.value));
      tools.append(this.select);
    }
    if (this.tree) {
      const box = element("input", { type: "checkbox", checked: this.state.get("tree") === "1" });
      box.addEventListener("change", () => this.choose("tree", box.checked ? "1" : ""));
      tools.append(element("label", {}, box, " as a tree"));
    }
    tools.append(this.count);
    return tools;
  }

  makeTable() {
    this.headings = this.columns.map((column) => {
      const button = element("button", { type: "button", title: column.hint ?? "" }, column.title);
      button.addEventListener("click", () => this.sortBy(column));
      return element("th", { className: classOf(column) }, button);
    });
    this.body = element("tbody");
    const head = element("thead", {}, element("tr", {}, ...this.headings));
    return element("div", { className: "scroller" }, element("table", { className: "rows" }, head, this.body));
  }

  makeMore() {
    this.more = element("button", { type: "button", className: "more", hidden: true });
    this.more.addEventListener("click", () => {
      this.limit += SHOWN_MORE;
      this.draw();
    });
    return this.more;
  }

  choose(key, value) {
    this.state.set(key, value);
    this.limit = SHOWN_AT_FIRST;
    this.draw();
  }

  sortBy(column) {
    const [key, descending] = this.order();
    const reverse = key === column.key ? !descending : Boolean(column.numeric);
    this.choose("sort", (reverse ? "-" : "") + column.key);
  }

  order() {
    const sort = this.state.get("sort") || this.columns[0].key;
    return sort.startsWith("-") ? [sort.slice(1), true] : [sort, false];
  }

  update(rows) {
    this.rows = rows;
    this.draw();
  }

  // What is to be seen, in its order: [row, depth in the tree].
  arranged() {
    const words = (this.state.get("text") ?? "").toLowerCase().split(/\s+/).filter(Boolean);
    const kind = this.state.get("kind");
    const [key, descending] = this.order();
    const column = this.columns.find((each) => each.key === key) ?? this.columns[0];
    const keyed = this.rows.map((row) => [column.value(row), row]);
    keyed.sort(([a, x], [b, y]) => compare(a, b, descending) || compare(x.name, y.name, false) || x.id - y.id);
    const sorted = keyed.map(([, row]) => row);
    const matches = (row) =>
      (!kind || this.choices.value(row) === kind) &&
      words.every((word) => this.haystack(row).toLowerCase().includes(word));
    if (!this.tree || this.state.get("tree") !== "1") return sorted.filter(matches).map((row) => [row, 0]);
    return this.tree(sorted, matches);
  }

  draw() {
    const arranged = this.arranged();
    const shown = arranged.slice(0, this.limit);
    this.drawTools(arranged.length, shown.length);
    const before = this.drawn;
    this.drawn = new Map();
    let place = this.body.firstChild;
    const put = (line) => {
      if (line === place) place = place.nextSibling;
      else this.body.insertBefore(line, place);
    };
    for (const [row, depth] of shown) {
      const drawn = before.get(row.id) ?? this.makeRow(row);
      before.delete(row.id);
      this.drawn.set(row.id, drawn);
      this.fill(drawn, row, depth);
      put(drawn.line);
      if (this.open.has(row.id)) put(this.fillDetail(drawn, row));
    }
    while (place) {
      const gone = place;
      place = place.nextSibling;
      gone.remove();
    }
  }

  drawTools(found, shown) {
    const total = this.rows.length;
    this.count.textContent = `${found === total ? "" : `${number(found)} of `}${number(total)} ${this.noun}`;
    if (shown < found) this.count.textContent += `, the first ${number(shown)} shown`;
    this.more.hidden = shown >= found;
    this.more.textContent = `Show ${number(Math.min(SHOWN_MORE, found - shown))} more of ${number(found)}`;
    const [key, descending] = this.order();
    this.columns.forEach((column, index) => {
      const sort = column.key === key ? (descending ? "descending" : "ascending") : "none";
      this.headings[index].setAttribute("aria-sort", sort);
    });
    this.element.classList.toggle("tree", this.state.get("tree") === "1");
    if (this.select) this.drawChoices();
  }

  drawChoices() {
    const chosen = this.state.get("kind") ?? "";
    const kinds = [...new Set([...this.rows.map(this.choices.value), chosen])].filter(Boolean).sort();
    const wanted = ["", ...kinds].join("\n");
    if (this.kindsDrawn !== wanted) {
      this.kindsDrawn = wanted;
      this.select.replaceChildren(
        element("option", { value: "" }, this.choices.all),
        ...kinds.map((kind) => element("option", { value: kind }, kind)),
      );
    }
    this.select.value = chosen;
  }

  makeRow(row) {
    const cells = this.columns.map((column) => element("td", { className: classOf(column) }));
    const line = element("tr", { tabIndex: 0 }, ...cells);
    const toggle = () => {
      if (!this.open.delete(row.id)) this.open.add(row.id);
      this.state.set("open", [...this.open].join(","));
      this.draw();
      this.onToggle?.();
    };
    line.addEventListener("click", () => getSelection().isCollapsed && toggle());
    line.addEventListener("keydown", (event) => {
      if (event.target === line && (event.key === "Enter" || event.key === " ")) {
        event.preventDefault();
        toggle();
      }
    });
    return { line, cells, below: null, parts: [] };
  }

  fill({ line, cells }, row, depth) {
    line.className = this.rowClass(row);
    line.setAttribute("aria-expanded", this.open.has(row.id));
    this.columns.forEach((column, index) => {
      const value = column.value(row);
      const shown = column.show ? column.show(value, row) : text(value);
      const cell = cells[index];
      if (cell.textContent !== shown) {
        cell.textContent = shown;
        cell.title = column.numeric ? "" : shown;
      }
      cell.classList.toggle("none", NOTHING.test(shown));
      if (column.indents) cell.style.paddingInlineStart = depth ? `${depth * 1.3 + 0.6}rem` : "";
    });
  }

  // A part of the details is made anew when what it shows has changed, and never while its text is being selected.
  fillDetail(drawn, row) {
    drawn.below ??= element("tr", { className: "below" }, element("td", { colSpan: this.columns.length }));
    const cell = drawn.below.firstChild;
    const selection = getSelection();
    this.detail(row).forEach(([data, make], index) => {
      const part = cell.children[index] ?? cell.appendChild(element("div"));
      const key = JSON.stringify(data);
      const selecting = !selection.isCollapsed && part.contains(selection.anchorNode);
      if (drawn.parts[index] === key || selecting) return;
      drawn.parts[index] = key;
      part.replaceChildren(...make());
    });
    return drawn.below;
  }
}

const classOf = (column) => [column.numeric ? "numeric" : "", column.narrow ? "narrow" : "", column.notInTree ? "not-in-tree" : ""].filter(Boolean).join(" ");

function compare(a, b, descending) {
  const missingA = a === null || a === undefined;
  const missingB = b === null || b === undefined;
  if (missingA || missingB) return missingA - missingB;
  const order = typeof a === "number" && typeof b === "number" ? a - b : collator.compare(String(a), String(b));
  return descending ? -order : order;
}

const collator = new Intl.Collator("en", { numeric: true });

// Children below their parents, siblings as they were sorted; of what matches also the way up to the root.
export function asTree(rows, matches) {
  const byId = new Map(rows.map((row) => [row.id, row]));
  const wanted = new Set();
  for (const row of rows) {
    if (!matches(row)) continue;
    for (let each = row; each && !wanted.has(each.id); each = byId.get(each.parent)) wanted.add(each.id);
  }
  const children = new Map();
  const roots = [];
  for (const row of rows) {
    if (!wanted.has(row.id)) continue;
    if (!byId.has(row.parent)) roots.push(row);
    else if (children.has(row.parent)) children.get(row.parent).push(row);
    else children.set(row.parent, [row]);
  }
  const arranged = [];
  const waiting = roots.reverse().map((row) => [row, 0]);
  while (waiting.length) {
    const [row, depth] = waiting.pop();
    arranged.push([row, depth]);
    for (const child of (children.get(row.id) ?? []).reverse()) waiting.push([child, depth + 1]);
  }
  return arranged;
}
