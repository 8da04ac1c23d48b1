// What the page asks of the broker, and orders it to do.

// Relative, and without a login that may be in the address (http://user:password@…): `fetch` allows none.
const base = new URL(".", location.origin + location.pathname);
const ANSWER_MS = 20000;

export class ApiError extends Error {
  constructor(status, reason) {
    super(reason);
    this.status = status;
  }
}

// The address of an API resource: every name is quoted, a slash in it too. What browsers take for a way through folders,
// however it is quoted, can't be in one.
export function path(...names) {
  if (names.some((name) => name === "." || name === "..")) throw new ApiError(0, "this name can't be in an address: use AMQP");
  return `api/${names.map(encodeURIComponent).join("/")}`;
}

export function url(relative) {
  return new URL(relative, base);
}

// Ask for `relative`, or with another method order something. Returns what the JSON in the answer says, or null.
export async function api(relative, { method = "GET", body, headers = {}, signal } = {}) {
  const signals = [AbortSignal.timeout(ANSWER_MS), ...(signal ? [signal] : [])];
  let answer;
  try {
    answer = await fetch(url(relative), {
      method,
      signal: AbortSignal.any(signals),
      headers: { "X-Requested-With": "dispatchd", ...(body === undefined ? {} : { "Content-Type": "application/json" }), ...headers },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new ApiError(0, error.name === "TimeoutError" ? "the broker does not answer" : "the broker can't be reached");
  }
  const told = await answer.text();
  let found = null;
  try {
    found = told ? JSON.parse(told) : null;
  } catch {
    throw new ApiError(answer.status, `${answer.status}: the answer is not JSON`);
  }
  if (answer.ok) return found;
  if (answer.status === 401 && found?.error !== "not_authorised" && relative !== "api/login") {
    dispatchEvent(new Event("loginneeded"));
  }
  throw new ApiError(answer.status, found?.reason ?? `${answer.status}`);
}

// Do this again and again while the page is looked at, until the signal is aborted. What is not answered is tried again.
export async function keepPolling(signal, milliseconds, look) {
  while (!signal.aborted) {
    if (!document.hidden) {
      try {
        await look();
      } catch (error) {
        if (!signal.aborted && !(error instanceof ApiError)) throw error;
      }
    }
    await new Promise((wake) => setTimeout(wake, milliseconds));
  }
}
