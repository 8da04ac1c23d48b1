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

// A list of facts, from an object or from [name, value] pairs.
export function facts(source) {
  const pairs = Array.isArray(source) ? source : Object.entries(source ?? {});
  const list = element("dl", { className: "facts" });
  for (const [name, value] of pairs) {
    list.append(element("dt", {}, String(name).replaceAll("_", " ")), element("dd", {}, text(value)));
  }
  return list;
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
