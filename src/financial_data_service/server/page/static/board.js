// What the page knows about the service: the newest statistics of every window, histories, the state.
// It takes messages, and returns the model that the view draws. It does no input or output.

import { kMaxOf } from "./view.js";

const SAMPLES_MAX = 360; // of a history: three minutes
const RATE_SAMPLES = 4; // that a rate is over
const SET_MS_MAX = 50; // that windows wait for the others of their update

/**
 * The newest statistics of every window of one symbol, and their history.
 *
 * The windows of an update arrive one by one. They replace the old ones together, once all have the
 * same sequence. So all rows of a table belong to the same price.
 */
class SymbolState {
  constructor(name, kMax) {
    this.name = name;
    this.windows = new Array(kMax).fill(null);
    this.sequence = 0;
    this.isCurrent = false; // Whether the service has confirmed it since the last connection.
    this.last = null;
    this.arriving = new Map(); // k → message that waits for the others of its update
    this.arrivingSince = null;
    this.sequences = [];
    this.times = [];
    this.lasts = [];
    this.held = [];
    this.rate = [];
    this.columns = Array.from({ length: kMax }, () => ({ avg: [], std: [], min: [], max: [] }));
  }

  update(message) {
    this.arriving.set(message.k, message);
    this.arrivingSince ??= performance.now();
    this.settle();
  }

  /** Show the windows that have arrived, if the update is complete or has waited long enough. */
  settle() {
    if (this.arriving.size === 0) return;
    const windows = this.windows.map((window, i) => this.arriving.get(i + 1) ?? window);
    const isSet = windows.every((window) => window?.sequence === windows[0]?.sequence);
    if (!isSet && performance.now() - this.arrivingSince < SET_MS_MAX) return;
    for (const { sequence, last } of this.arriving.values()) {
      if (this.isCurrent && sequence < this.sequence) continue;
      this.isCurrent = true;
      this.sequence = sequence;
      this.last = last;
    }
    this.windows = windows;
    this.arriving.clear();
    this.arrivingSince = null;
  }

  /** Add a sample to the history; a gap while the service cannot be reached. */
  sample(time, isOnline, largestWindow) {
    this.settle();
    this.times.push(time);
    const isKnown = isOnline && this.isCurrent;
    this.lasts.push(isKnown ? this.last : null);
    this.held.push(isKnown ? Math.min(this.sequence, largestWindow) : null);
    this.sequences.push(isKnown ? this.sequence : null);
    this.rate.push(this.rateNow());
    this.windows.forEach((window, i) => {
      const column = this.columns[i];
      const known = isKnown && window;
      column.avg.push(known ? window.avg : null);
      column.std.push(known ? Math.sqrt(window.var) : null);
      column.min.push(known ? window.min : null);
      column.max.push(known ? window.max : null);
    });
    if (this.times.length > SAMPLES_MAX) this.dropOldest();
  }

  dropOldest() {
    const lists = [this.times, this.lasts, this.held, this.rate, this.sequences];
    for (const column of this.columns) lists.push(...Object.values(column));
    for (const list of lists) list.shift();
  }

  /** Return the prices per second over the last samples; null if one of both ends is unknown. */
  rateNow() {
    const end = this.times.length - 1;
    const begin = Math.max(0, end - RATE_SAMPLES);
    const [from, to] = [this.sequences[begin], this.sequences[end]];
    if (end === begin || from === null || to === null) return null;
    return (1000 * Math.max(0, to - from)) / (this.times[end] - this.times[begin]);
  }

  /** Return what the view shows, with the history of some windows. */
  model(ks) {
    const { name, sequence, last, windows, times, held, rate, columns } = this;
    const shown = ks.filter((k) => k <= columns.length);
    return {
      name, sequence, last, windows,
      history: {
        times, last: this.lasts, held, rate,
        windows: shown.map((k) => ({ k, window: 10 ** k, ...columns[k - 1] })),
      },
    };
  }
}

/** All that is known about the service. */
export class Board {
  constructor() {
    this.symbols = new Map();
    this.limits = null;
    this.isOnline = false;
    this.problem = null;
    this.wantsKey = false; // The service refuses every request until it gets its key.
    this.offlineSince = null;
    this.updatedAt = null;
    this.startedAt = null; // when the service started, by the clock of this machine
    this.requestRate = null;
    this.refused = []; // files that the service cannot serve
  }

  get kMax() {
    return kMaxOf(this.limits);
  }

  /** Note that there is a connection. Symbols that were deleted meanwhile are removed. */
  begin(limits) {
    const names = new Set(limits.symbols.map((entry) => entry.symbol));
    const isOther = this.limits && this.limits.largest_window !== limits.largest_window;
    this.limits = limits;
    for (const name of [...this.symbols.keys()]) {
      if (isOther || !names.has(name)) this.symbols.delete(name);
      else this.symbols.get(name).isCurrent = false; // It may have started from its first price again.
    }
    this.isOnline = true;
    this.problem = null;
    this.offlineSince = null;
  }

  lose(problem) {
    this.isOnline = false;
    this.problem = problem;
    this.offlineSince ??= Date.now();
    this.requestRate = null;
  }

  take(message) {
    if (message.event === "deleted") {
      this.symbols.delete(message.symbol);
    } else if (message.event) {
      let symbol = this.symbols.get(message.symbol);
      if (!symbol) {
        symbol = new SymbolState(message.symbol, this.kMax);
        this.symbols.set(message.symbol, symbol);
      }
      symbol.update(message);
      this.updatedAt = Date.now();
    } else if (message.error) {
      throw new Error(message.error.msg);
    }
  }

  sample() {
    const time = Date.now();
    for (const symbol of this.symbols.values()) {
      symbol.sample(time, this.isOnline, this.limits.largest_window);
    }
  }

  /** Whether windows wait for the others of their update. */
  get isArriving() {
    return [...this.symbols.values()].some((symbol) => symbol.arriving.size > 0);
  }

  /** Return what the view shows, with the histories of some windows. */
  model(ks) {
    for (const symbol of this.symbols.values()) symbol.settle();
    const { isOnline, wantsKey, offlineSince, updatedAt, startedAt, requestRate } = this;
    return {
      isOnline, wantsKey, offlineSince, updatedAt, startedAt, requestRate, now: Date.now(),
      problem: wantsKey ? null : this.problem, // The form for the key says it.
      limits: this.limits, refused: this.refused,
      symbols: [...this.symbols.values()].map((symbol) => symbol.model(ks)),
    };
  }
}
