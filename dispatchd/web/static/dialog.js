// Asking before something is done, and saying how it went.

import { button, element } from "./dom.js";

const SHOWN_MS = 6000;

export function toast(words, mood = "good") {
  const shown = element("div", { className: `toast ${mood}` }, words);
  document.getElementById("toasts").append(shown);
  setTimeout(() => shown.remove(), SHOWN_MS);
}

// A form in a dialog. `fields` are {name, title, type, value, hint, choices, required}; `act(values)` does it, and what it
// throws is shown in the dialog; what it returns is said when the dialog is closed. With `typed`, this text has to be typed
// before anything can be done.
export function ask({ title, text = "", fields = [], verb, isDangerous = false, typed = null, act }) {
  const inputs = new Map();
  const rows = fields.map((field) => {
    const input = makeInput(field);
    inputs.set(field.name, input);
    if (field.type === "checkbox") return element("label", { className: "check" }, input, ` ${field.title}`);
    const hint = field.hint ? element("small", {}, field.hint) : null;
    return element("label", {}, element("span", {}, field.title), input, hint);
  });
  const wrong = element("p", { className: "wrong", role: "alert" });
  const go = element("button", { type: "submit", className: isDangerous ? "danger" : "primary" }, verb);
  if (typed !== null) {
    const input = element("input", { type: "text", autocomplete: "off", spellcheck: false });
    const check = () => (go.disabled = input.value !== typed);
    input.addEventListener("input", check);
    check();
    rows.push(element("label", {}, element("span", {}, "Type the name to go on: ", element("code", {}, typed)), input));
  }
  const form = element(
    "form",
    {},
    element("h2", {}, title),
    text ? element("p", {}, text) : null,
    ...rows,
    wrong,
    element("div", { className: "buttons" }, button("Cancel", () => dialog.close()), go),
  );
  const dialog = element("dialog", { className: "ask" }, form);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    go.disabled = true;
    wrong.textContent = "";
    try {
      const values = Object.fromEntries([...inputs].map(([name, input]) => [name, valueOf(input)]));
      const told = await act(values);
      dialog.close();
      if (told) toast(told);
    } catch (error) {
      wrong.textContent = error.message;
      go.disabled = false;
    }
  });
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}

function makeInput({ type = "text", value = "", choices, required = false, placeholder = "", min }) {
  if (choices) {
    const made = element("select", {}, ...choices.map(([key, words]) => element("option", { value: key }, words)));
    made.value = value || choices[0][0];
    return made;
  }
  if (type === "area") return element("textarea", { value, rows: 5, spellcheck: false, placeholder, required });
  if (type === "checkbox") return element("input", { type, checked: Boolean(value) });
  const made = element("input", { type, value, required, placeholder, autocomplete: type === "password" ? "new-password" : "off", spellcheck: false });
  if (min !== undefined) made.min = min;
  return made;
}

function valueOf(input) {
  if (input.type === "checkbox") return input.checked;
  return input.type === "number" ? Number(input.value) : input.value;
}
