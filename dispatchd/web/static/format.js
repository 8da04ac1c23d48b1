// How figures are written. Every function takes what the API gives, also nothing at all, and returns text.

const NONE = "–";
const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const tenths = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });

export function number(value) {
  return typeof value === "number" ? whole.format(value) : text(value);
}

export function rate(value) {
  if (typeof value !== "number") return NONE;
  return (value > 0 && value < 10 ? tenths : whole).format(value);
}

export function share(value) {
  if (typeof value !== "number") return NONE;
  const percent = value * 100;
  return percent > 0 && percent < 0.1 ? "<0.1 %" : `${(percent < 10 ? tenths : whole).format(percent)} %`;
}

export function bytes(value) {
  if (typeof value !== "number") return NONE;
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${(unit && value < 10 ? tenths : whole).format(value)} ${units[unit]}`;
}

export function duration(milliseconds) {
  if (typeof milliseconds !== "number") return NONE;
  if (milliseconds === 0) return "0";
  if (milliseconds < 1) return "<1 ms";
  if (milliseconds < 1000) return `${whole.format(milliseconds)} ms`;
  const seconds = milliseconds / 1000;
  if (seconds < 60) return `${tenths.format(seconds)} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ${Math.floor(seconds % 60)} s`;
  const hours = Math.floor(minutes / 60);
  if (hours < 24) return `${hours} h ${minutes % 60} min`;
  return `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

export function time(milliseconds) {
  return typeof milliseconds === "number" ? new Date(milliseconds).toLocaleString("sv") : NONE;
}

export function flags(row, names) {
  return Object.keys(names).filter((key) => row[key]).map((key) => names[key]).join(" ");
}

// Any value of the API in one line: what a client may put into a table has no fixed shape.
export function text(value) {
  if (value === null || value === undefined || value === "") return NONE;
  if (value === true) return "yes";
  if (value === false) return "no";
  if (typeof value === "number") return tenths.format(value);
  if (Array.isArray(value)) return value.length ? value.map(text).join(", ") : NONE;
  if (typeof value === "object") {
    const entries = Object.entries(value);
    return entries.length ? entries.map(([key, item]) => `${key}: ${text(item)}`).join(", ") : NONE;
  }
  return String(value);
}
