// Making elements. Data goes in as text only: names are chosen by clients, and none of them becomes markup.

import { text } from "./format.js";

const LISTED_ROWS = 200;

export function element(tag, { className, title, ...properties } = {}, ...children) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (title) made.title = title;
  Object.assign(made, properties);
  made.append(...children);
  return made;
}

// A list of facts: from [name, value] pairs as they are, or from an object of ours, whose names become words.
export function facts(source) {
  const pairs = Array.isArray(source)
    ? source
    : Object.entries(source ?? {}).map(([name, value]) => [name.replaceAll("_", " "), value]);
  const lines = pairs.map(([name, value]) =>
    element("div", {}, element("dt", {}, name), element("dd", {}, text(value))),
  );
  return element("dl", { className: "facts" }, ...lines);
}

// A small fixed table inside the details of a row; columns are [title, function of the row].
export function listing(title, rows, columns) {
  const section = element("section", { className: "listing" }, element("h3", {}, `${title} (${rows.length})`));
  if (!rows.length) return section;
  const head = element("tr", {}, ...columns.map(([name]) => element("th", {}, name)));
  const body = rows.slice(0, LISTED_ROWS).map((row) =>
    element("tr", {}, ...columns.map(([, value]) => element("td", {}, text(value(row))))),
  );
  section.append(element("table", {}, element("thead", {}, head), element("tbody", {}, ...body)));
  if (rows.length > LISTED_ROWS) {
    section.append(element("p", { className: "note" }, `The first ${LISTED_ROWS} of ${rows.length}.`));
  }
  return section;
}
