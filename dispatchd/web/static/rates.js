// Counters only ever grow; what people want to see is how fast. Two polls make a rate.

export class Rates {
  constructor(fields) {
    this.fields = fields;
    this.last = new Map();
  }

  // Give each row `rates`: of each counter, per second since the last poll; null when there is none to compare with.
  add(rows, now = performance.now()) {
    const next = new Map();
    for (const row of rows) {
      const before = this.last.get(row.id);
      const seconds = before ? (now - before.now) / 1000 : 0;
      row.rates = {};
      const counters = { now };
      for (const field of this.fields) {
        const value = row[field];
        counters[field] = value;
        const known = seconds > 0 && typeof value === "number" && typeof before[field] === "number";
        row.rates[field] = known ? Math.max(0, (value - before[field]) / seconds) : null;
      }
      next.set(row.id, counters);
    }
    this.last = next;
    return rows;
  }
}
