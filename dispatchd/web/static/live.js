// One stream of events for the whole page. What is listened to changes with the section that is shown; nothing is while
// nobody looks. After the broker was away, it begins again.

import { api, url } from "./api.js";

const RETRY_MS = 1500;

export class Live {
  // `say(words, mood)`: whether what is shown is live.
  constructor(say) {
    this.say = say;
    this.listeners = new Set();
    this.source = null;
    this.topics = "";
    document.addEventListener("visibilitychange", () => this.renew());
  }

  // Tell `hear(told)` of a topic until the signal is aborted.
  listen(topic, hear, signal) {
    const listener = { topic, hear };
    this.listeners.add(listener);
    signal?.addEventListener("abort", () => {
      this.listeners.delete(listener);
      this.renewSoon();
    });
    this.renewSoon();
  }

  renewSoon() {
    this.soon ??= setTimeout(() => {
      this.soon = null;
      this.renew();
    });
  }

  renew(force = false) {
    const topics = document.hidden || this.isStopped ? "" : [...new Set([...this.listeners].map(({ topic }) => topic))].join(",");
    if (topics === this.topics && !force) return;
    this.topics = topics;
    this.source?.close();
    this.source = null;
    clearTimeout(this.retry);
    if (!topics) return;
    const source = (this.source = new EventSource(url(`api/events?topics=${encodeURIComponent(topics)}`)));
    source.onmessage = ({ data }) => {
      this.say("live", "good");
      const { topic, told } = JSON.parse(data);
      for (const listener of this.listeners) if (listener.topic === topic) listener.hear(told);
    };
    source.onerror = () => {
      if (source !== this.source) return;
      this.say("not live: the broker can't be reached", "bad");
      source.close();
      this.tryLater();
    };
  }

  // What browsers do by themselves after an error differs, and is not enough when nobody is logged in any more: asking who is
  // has the form shown then.
  tryLater() {
    clearTimeout(this.retry);
    this.retry = setTimeout(async () => {
      const isThere = await api("api/whoami").then(() => true, () => false);
      if (isThere) this.renew(true);
      else if (!this.isStopped) this.tryLater();
    }, RETRY_MS);
  }

  stop() {
    this.isStopped = true;
    this.renew();
  }

  start() {
    this.isStopped = false;
    this.renew();
  }
}
