// Making elements. Data goes in as text only: names are chosen by clients, and none of them becomes markup.

import { text } from "./format.js";

const SVG = "http://www.w3.org/2000/svg";
const LISTED_ROWS = 200;

export function element(tag, { className, title, data, label, ...properties } = {}, ...children) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (title) made.title = title;
  if (label) made.setAttribute("aria-label", label);
  Object.assign(made.dataset, data);
  Object.assign(made, properties);
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

export function svg(tag, attributes = {}, ...children) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

export function button(title, onClick, { className = "", ...properties } = {}) {
  const made = element("button", { type: "button", className, ...properties }, title);
  made.addEventListener("click", onClick);
  return made;
}

export function card(title, ...children) {
  return element("section", { className: "card" }, element("h2", {}, ...[title].flat()), ...children);
}

// A list of facts: from [name, value] pairs as they are, or from an object, whose names become words. A value may be an
// element.
export function facts(source) {
  const pairs = Array.isArray(source)
    ? source
    : Object.entries(source ?? {}).map(([name, value]) => [name.replaceAll("_", " "), value]);
  const lines = pairs
    .filter(([, value]) => value !== undefined)
    .map(([name, value]) =>
      element("div", {}, element("dt", {}, name), element("dd", {}, value instanceof Node ? value : text(value))),
    );
  return element("dl", { className: "facts" }, ...lines);
}

// A small fixed table; columns are [title, function of the row, options]. What a function returns is text or an element.
export function listing(rows, columns, nothing = "None.") {
  if (!rows.length) return element("p", { className: "note" }, nothing);
  const head = element("tr", {}, ...columns.map(([name, , { numeric } = {}]) => element("th", { className: numeric ? "numeric" : "" }, name)));
  const body = rows.slice(0, LISTED_ROWS).map((row) =>
    element(
      "tr",
      {},
      ...columns.map(([, value, { numeric } = {}]) => {
        const shown = value(row);
        return element("td", { className: numeric ? "numeric" : "" }, shown instanceof Node ? shown : text(shown));
      }),
    ),
  );
  const table = element("table", {}, element("thead", {}, head), element("tbody", {}, ...body));
  const listed = element("div", { className: "listing" }, table);
  if (rows.length > LISTED_ROWS) {
    listed.append(element("p", { className: "note" }, `The first ${LISTED_ROWS} of ${rows.length}.`));
  }
  return listed;
}

// Replaces what an element holds, but only when what it shows has changed, and never while its text is being selected or
// something in it is being typed.
export function renew(holder, data, make) {
  const key = JSON.stringify(data);
  const selection = getSelection();
  const isUsed =
    (!selection.isCollapsed && holder.contains(selection.anchorNode)) ||
    (holder.contains(document.activeElement) && /^(INPUT|TEXTAREA|SELECT)$/.test(document.activeElement.tagName));
  if (holder.shown === key || isUsed) return;
  const focused = holder.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
  holder.shown = key;
  holder.replaceChildren(...[make()].flat().filter(Boolean));
  if (focused) holder.querySelector(`a[href="${CSS.escape(focused)}"]`)?.focus();
}

// The address of a page of something: each name is a segment of its own, whatever is in it.
export function address(...names) {
  return `#${names.map(encodeURIComponent).join("/")}`;
}

export function link(shown, ...names) {
  return element("a", { href: address(...names) }, shown);
}
