// Users and what they may do, vhosts, policies, limits, and all definitions in one file.

import { api, path, url } from "../api.js";
import { ask, toast } from "../dialog.js";
import { button, card, element, listing, renew } from "../dom.js";
import { number, text } from "../format.js";

const TAGS = ["administrator", "monitoring", "policymaker", "management"];
const KINDS = [["all", "queues and exchanges"], ["queues", "queues"], ["exchanges", "exchanges"]];
const VHOST_LIMITS = [["max-connections", "connections"], ["max-queues", "queues"]];
const USER_LIMITS = [["max-connections", "connections"], ["max-channels", "channels"]];

export class Admin {
  constructor({ signal }) {
    this.signal = signal;
    this.holders = {};
    const make = (name, title, ...buttons) => {
      this.holders[name] = element("div");
      return card([title, element("span", {}, ...buttons)], this.holders[name]);
    };
    const upload = element("input", { type: "file", accept: "application/json", hidden: true });
    upload.addEventListener("change", () => this.upload(upload));
    this.element = element(
      "div",
      {},
      element("div", { className: "heading" }, element("h1", {}, "Admin")),
      element(
        "div",
        { className: "buttons" },
        element("a", { className: "button", href: url("api/definitions"), download: "definitions.json" }, "Download all definitions"),
        button("Load definitions…", () => upload.click()),
        upload,
      ),
      element(
        "div",
        { className: "cards" },
        make("users", "Users", button("Add a user…", () => this.editUser(null))),
        make("vhosts", "Vhosts", button("Add a vhost…", () => this.addVhost())),
        make("policies", "Policies", button("Add a policy…", () => this.editPolicy(null, false))),
        make("operatorPolicies", "Operator policies", button("Add an operator policy…", () => this.editPolicy(null, true))),
      ),
    );
    this.look();
  }

  async look() {
    try {
      const lists = ["users", "permissions", "user-limits", "vhosts", "vhost-limits", "policies", "operator-policies"];
      const [users, permissions, userLimits, vhosts, vhostLimits, policies, operatorPolicies] = await Promise.all(
        lists.map((name) => api(`api/${name}`, { signal: this.signal })),
      );
      this.vhosts = vhosts.map(({ name }) => name);
      renew(this.holders.users, [users, permissions, userLimits], () => this.userTable(users, permissions, userLimits));
      renew(this.holders.vhosts, [vhosts, vhostLimits], () => this.vhostTable(vhosts, vhostLimits));
      renew(this.holders.policies, policies, () => this.policyTable(policies, false));
      renew(this.holders.operatorPolicies, operatorPolicies, () => this.policyTable(operatorPolicies, true));
    } catch (error) {
      if (!this.signal.aborted) toast(error.message, "bad");
    }
  }

  // Ask for something, do it, and show what has become of it.
  change(question) {
    const { act } = question;
    ask({
      ...question,
      act: async (values) => {
        const told = await act(values);
        await this.look();
        return told;
      },
    });
  }

  // Users

  userTable(users, permissions, limits) {
    const may = (name) => permissions.filter(({ user }) => user === name).map(({ vhost, configure, write, read }) => `${vhost}: ${[configure, write, read].map((each) => each || "nothing").join(" · ")}`);
    return listing(users, [
      ["Name", ({ name }) => name],
      ["Tags", ({ tags }) => tags],
      ["May configure · write · read", ({ name, of_file: isOfFile }) => (isOfFile ? "everything" : may(name).join("; ") || "nothing")],
      ["Limits", ({ name }) => limitsOf(limits.find(({ user }) => user === name))],
      ["", (row) => (row.of_file ? "of the configuration file" : this.userButtons(row))],
    ]);
  }

  userButtons(row) {
    return element(
      "span",
      { className: "acts" },
      button("Edit…", () => this.editUser(row)),
      button("Permissions…", () => this.permit(row.name)),
      button("Limits…", () => this.limit("user-limits", row.name, USER_LIMITS)),
      button("Delete…", () => this.remove("user", row.name, path("users", row.name)), { className: "danger" }),
    );
  }

  editUser(row) {
    this.change({
      title: row ? `Edit ${row.name}` : "Add a user",
      fields: [
        ...(row ? [] : [{ name: "name", title: "Name", required: true }]),
        { name: "password", title: "Password", type: "password", hint: row ? "empty: it stays as it is" : "empty: nobody can log in as this user" },
        ...TAGS.map((tag) => ({ name: tag, title: tag, type: "checkbox", value: row?.tags.includes(tag) })),
      ],
      verb: row ? "Change" : "Add",
      act: async ({ name = row?.name, password, ...given }) => {
        const others = (row?.tags ?? []).filter((tag) => !TAGS.includes(tag));
        const tags = [...TAGS.filter((tag) => given[tag]), ...others].join(",");
        const secret = password ? { password } : { password_hash: row?.password_hash ?? "", ...(row ? { hashing_algorithm: row.hashing_algorithm } : {}) };
        await api(path("users", name), { method: "PUT", body: { ...secret, tags } });
        return `${name} is ${row ? "changed" : "added"}`;
      },
    });
  }

  permit(user) {
    this.change({
      title: `What ${user} may do`,
      text: "Regular expressions for the names of queues and exchanges; an empty one permits nothing.",
      fields: [
        { name: "vhost", title: "Vhost", choices: this.vhosts.map((name) => [name, name]) },
        { name: "configure", title: "Configure", value: ".*" },
        { name: "write", title: "Write", value: ".*" },
        { name: "read", title: "Read", value: ".*" },
        { name: "isNothing", title: "nothing at all: not even come in", type: "checkbox" },
      ],
      verb: "Set",
      act: async ({ vhost, isNothing, ...rights }) => {
        await api(path("permissions", vhost, user), isNothing ? { method: "DELETE" } : { method: "PUT", body: rights });
        return `It is in force in ${vhost}`;
      },
    });
  }

  // Vhosts

  vhostTable(vhosts, limits) {
    return listing(vhosts, [
      ["Name", ({ name }) => name],
      ["Description", ({ description }) => description],
      ["Messages", ({ messages }) => number(messages), { numeric: true }],
      ["Queues", ({ queues }) => number(queues), { numeric: true }],
      ["Limits", ({ name }) => limitsOf(limits.find(({ vhost }) => vhost === name))],
      ["Traced", ({ tracing }) => tracing],
      ["", (row) => element(
        "span",
        { className: "acts" },
        button(row.tracing ? "Stop tracing" : "Trace", () => this.trace(row)),
        button("Limits…", () => this.limit("vhost-limits", row.name, VHOST_LIMITS)),
        button("Delete…", () => this.remove("vhost", row.name, path("vhosts", row.name), "With it go its queues with all their messages, its exchanges, and its connections."), { className: "danger" }),
      )],
    ]);
  }

  addVhost() {
    this.change({
      title: "Add a vhost",
      fields: [{ name: "name", title: "Name", required: true }, { name: "description", title: "Description" }],
      verb: "Add",
      act: async ({ name, description }) => {
        await api(path("vhosts", name), { method: "PUT", body: { description } });
        return `${name} is added`;
      },
    });
  }

  async trace({ name, tracing }) {
    await api(path("vhosts", name), { method: "PUT", body: { tracing: !tracing } }).catch((error) => toast(error.message, "bad"));
    await this.look();
  }

  limit(kind, name, limits) {
    this.change({
      title: `Limits of ${name}`,
      fields: [
        { name: "which", title: "How many", choices: limits },
        { name: "value", title: "At most", type: "number", value: 100, min: -1, hint: "-1: no limit" },
      ],
      verb: "Set",
      act: async ({ which, value }) => {
        await api(path(kind, name, which), value < 0 ? { method: "DELETE" } : { method: "PUT", body: { value } });
        return "The limit is in force";
      },
    });
  }

  // Policies

  policyTable(policies, isOperator) {
    return listing(policies, [
      ["Name", ({ name }) => name],
      ["Vhost", ({ vhost }) => vhost],
      ["Pattern", ({ pattern }) => pattern],
      ["Of", (row) => row["apply-to"]],
      ["Priority", ({ priority }) => number(priority), { numeric: true }],
      ["Definition", ({ definition }) => text(definition)],
      ["", (row) => element(
        "span",
        { className: "acts" },
        button("Edit…", () => this.editPolicy(row, isOperator)),
        button("Delete…", () => this.remove("policy", row.name, path(isOperator ? "operator-policies" : "policies", row.vhost, row.name)), { className: "danger" }),
      )],
    ]);
  }

  editPolicy(row, isOperator) {
    this.change({
      title: row ? `Edit ${row.name}` : `Add ${isOperator ? "an operator policy" : "a policy"}`,
      fields: [
        ...(row ? [] : [{ name: "vhost", title: "Vhost", choices: this.vhosts.map((name) => [name, name]) }, { name: "name", title: "Name", required: true }]),
        { name: "pattern", title: "Names that match", value: row?.pattern ?? "", required: true, hint: "a regular expression, such as ^orders\\." },
        { name: "applyTo", title: "Of", choices: KINDS, value: row?.["apply-to"] },
        { name: "priority", title: "Priority", type: "number", value: row?.priority ?? 0 },
        { name: "definition", title: "Definition (JSON)", type: "area", value: JSON.stringify(row?.definition ?? { "max-length": 10000 }, null, 2) },
      ],
      verb: row ? "Change" : "Add",
      act: async ({ vhost = row?.vhost, name = row?.name, pattern, applyTo, priority, definition }) => {
        let parsed;
        try {
          parsed = JSON.parse(definition);
        } catch (error) {
          throw new Error(`The definition is not JSON: ${error.message}`);
        }
        const body = { pattern, "apply-to": applyTo, priority, definition: parsed };
        await api(path(isOperator ? "operator-policies" : "policies", vhost, name), { method: "PUT", body });
        return `${name} is in force`;
      },
    });
  }

  // All of them

  remove(kind, name, address, words = "") {
    this.change({
      title: `Delete the ${kind}?`,
      text: words,
      verb: "Delete",
      isDangerous: true,
      typed: name,
      act: async () => {
        await api(address, { method: "DELETE" });
        return `${name} is deleted`;
      },
    });
  }

  async upload(input) {
    const [file] = input.files;
    input.value = "";
    if (!file) return;
    let body;
    try {
      body = JSON.parse(await file.text());
    } catch (error) {
      toast(`${file.name} is not JSON: ${error.message}`, "bad");
      return;
    }
    const counts = Object.entries(body).filter(([, rows]) => Array.isArray(rows)).map(([name, rows]) => `${number(rows.length)} ${name.replaceAll("_", " ")}`);
    this.change({
      title: `Load ${file.name}?`,
      text: `It defines ${counts.join(", ") || "nothing"}. What is there stays, and what has the same name is changed where that is possible.`,
      verb: "Load",
      act: async () => {
        await api("api/definitions", { method: "POST", body });
        return `${file.name} is loaded`;
      },
    });
  }
}

function limitsOf(row) {
  return Object.entries(row?.value ?? {}).map(([name, value]) => `${name} ${number(value)}`).join(", ") || "–";
}
