// The root page: what the service says of its symbols, as it says it.
//
// One WebSocket brings every window of every symbol (see /asyncapi.yaml); /symbols tells the limits,
// /metrics the requests and /readyz the files that are refused. Nothing is loaded from anywhere else. Names of symbols reach the page
// as text only, never as HTML.
//
//   follow ──▶ Board (symbols, their windows and histories) ──▶ render, at most once a frame

import { COLOURS, Plots, brief, fixed } from "./plots.js";

const INTERVAL_MS = 250; // of updates
const SAMPLE_MS = 500; // of histories
const SAMPLES_MAX = 360; // three minutes
const RATE_SAMPLES = 4; // that a rate is over
const FRAME_MS = 20; // in which what comes is shown together
const SET_MS_MAX = 50; // that windows wait for the others of their update
const POLL_MS = 2000;
const NO_FIGURES = [404, 429, 503]; // of /metrics: switched off, or the service has too much to do
const ANSWER_MS_MAX = 5000;
const RETRY_MS = [250, 500, 1000, 2000];
const BANDS_FIRST = [2, 3, 4]; // windows in the plots to begin with, as powers of ten
const COLUMNS = ["k", "window", "values", "fill", "min", "max", "last", "avg", "var", "std"];
const DECIMALS_MIN = 2;
const DECIMALS_MAX = 8; // Prices with more have been computed: no tick is as fine.
const QUOTED_DIGITS_MAX = 12; // Prices with more have been computed, too: no quote is as long.
const COMPUTED_DIGITS = 6; // that are shown of those

const byId = (id) => document.getElementById(id);

// --- Numbers in words

/** Decimals that show a price as it was sent, as far as that stays readable. */
function decimalsOf(price) {
  const [mantissa, exponent] = Math.abs(price).toExponential().split("e"); // as few as are exact
  const digits = mantissa.replace(".", "").length;
  let wanted = digits - 1 - Number(exponent);
  if (wanted > DECIMALS_MAX || digits > QUOTED_DIGITS_MAX) {
    wanted = COMPUTED_DIGITS - 1 - Number(exponent);
  }
  return Math.min(Math.max(wanted, DECIMALS_MIN), DECIMALS_MAX);
}

/** A price with no more digits than a double holds. */
function priceText(price, decimals) {
  const size = Math.abs(price);
  if (size >= 1e15 || (size > 0 && size < 1e-6)) return String(Number(price.toPrecision(9)));
  const digits = size >= 1 ? Math.floor(Math.log10(size)) + 1 : 1;
  return fixed(price, Math.min(decimals, 15 - digits));
}

/** A variance or standard deviation: six significant digits. */
function spreadText(value) {
  if (value === 0) return "0";
  if (value < 1e-4 || value >= 1e15) return value.toExponential(5);
  return fixed(value, Math.max(5 - Math.floor(Math.log10(value)), 0));
}

/** A share in per cent, exact as far as six decimals go. */
function percentText(part, whole) {
  return `${Number(((100 * part) / whole).toFixed(6))} %`;
}

function spanText(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const parts = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  const first = parts.findIndex(([length]) => whole >= length);
  if (first < 0) return "0 s";
  return parts
    .slice(first, first + 2)
    .map(([length, unit], i) => `${Math.floor((i ? whole % parts[first][0] : whole) / length)} ${unit}`)
    .filter((text, i) => i === 0 || !text.startsWith("0 "))
    .join(" ");
}

function clock(time) {
  return new Date(time).toLocaleTimeString("en-GB");
}

/** Windows of each symbol: 10, 100, … as far as the largest goes, which need not be one of them. */
function kMaxOf(limits) {
  return String(limits.largest_window).length - 1;
}

// --- What is known

/**
 * The newest of every window of one symbol, and what it was before.
 *
 * The windows of an update come one by one. They are taken over together, once all are as of the
 * same price, so that what is shown side by side belongs together.
 */
class SymbolState {
  constructor(name, kMax) {
    this.name = name;
    this.windows = new Array(kMax).fill(null);
    this.sequence = 0;
    this.isCurrent = false; // Of a connection that has just begun nothing is known yet.
    this.last = null;
    this.decimals = DECIMALS_MIN; // of the prices of now and of the history: nothing flickers
    this.decimalsWanted = DECIMALS_MIN; // since the last sample
    this.decimalsThen = []; // wanted before each sample
    this.arriving = new Map(); // k → message that waits for the others of its update
    this.arrivingSince = null;
    this.hasNews = false; // that are not shown yet
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

  /** Take over what has come, if it is all of an update or has waited for the rest long enough. */
  settle() {
    if (this.arriving.size === 0) return;
    const windows = this.windows.map((window, i) => this.arriving.get(i + 1) ?? window);
    const isSet = windows.every((window) => window?.sequence === windows[0]?.sequence);
    if (!isSet && performance.now() - this.arrivingSince < SET_MS_MAX) return;
    this.wantDecimals([...this.arriving.values()]);
    for (const { sequence, last } of this.arriving.values()) {
      if (this.isCurrent && sequence < this.sequence) continue;
      this.isCurrent = true;
      this.sequence = sequence;
      this.last = last;
    }
    this.windows = windows;
    this.arriving.clear();
    this.arrivingSince = null;
    this.hasNews = true;
  }

  wantDecimals(windows) {
    const wanted = windows.flatMap(({ min, max, last }) => [min, max, last]).map(decimalsOf);
    this.decimalsWanted = Math.max(this.decimalsWanted, ...wanted);
    this.decimals = Math.max(this.decimals, this.decimalsWanted);
  }

  /** Begin to count decimals anew: those of a price go once the history has lost it. */
  sampleDecimals() {
    this.decimalsThen.push(this.decimalsWanted);
    if (this.decimalsThen.length > SAMPLES_MAX) this.decimalsThen.shift();
    const before = this.decimals;
    this.decimals = Math.max(...this.decimalsThen);
    this.decimalsWanted = DECIMALS_MIN;
    this.wantDecimals(this.windows.filter(Boolean));
    if (this.decimals !== before) this.hasNews = true;
  }

  /** Note what is known now; a gap while nothing is. */
  sample(time, isOnline, largestWindow) {
    this.settle();
    this.sampleDecimals();
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

  /** Prices per second over the last samples; null where one of both ends is not known. */
  rateNow() {
    const end = this.times.length - 1;
    const begin = Math.max(0, end - RATE_SAMPLES);
    const [from, to] = [this.sequences[begin], this.sequences[end]];
    if (end === begin || from === null || to === null) return null;
    return (1000 * Math.max(0, to - from)) / (this.times[end] - this.times[begin]);
  }

  /** The newest of all that is known, as the table shows it. */
  now(ks, largestWindow) {
    const windows = ks.filter((k) => k <= this.windows.length).map((k) => {
      const { avg = null, min = null, max = null, var: variance } = this.windows[k - 1] ?? {};
      return { avg, min, max, std: variance === undefined ? null : Math.sqrt(variance) };
    });
    const held = this.sequence ? Math.min(this.sequence, largestWindow) : null;
    const rate = this.rate.findLast((each) => each !== null) ?? null;
    return { last: this.last, held, rate, windows };
  }

  history(ks, largestWindow) {
    return {
      times: this.times, last: this.lasts, held: this.held, heldMax: largestWindow,
      rate: this.rate, decimals: this.decimals, now: this.now(ks, largestWindow),
      windows: ks
        .filter((k) => k <= this.columns.length)
        .map((k) => ({ k, window: 10 ** k, ...this.columns[k - 1] })),
    };
  }
}

/** All that is known, and how things stand. */
class Board {
  constructor() {
    this.symbols = new Map();
    this.limits = null;
    this.isOnline = false;
    this.problem = null;
    this.wantsKey = false; // before it answers anything else
    this.offlineSince = null;
    this.updatedAt = null;
    this.startedAt = null; // of the service's process, as this machine's clock has it
    this.requestRate = null;
    this.refused = []; // files that the service has and cannot serve
  }

  get kMax() {
    return kMaxOf(this.limits);
  }

  /** Take in who is there now: what was deleted meanwhile goes. */
  begin(limits) {
    const names = new Set(limits.symbols.map((entry) => entry.symbol));
    const isOther = this.limits && this.limits.largest_window !== limits.largest_window;
    this.limits = limits;
    for (const name of [...this.symbols.keys()]) {
      if (isOther || !names.has(name)) this.symbols.delete(name);
      else this.symbols.get(name).isCurrent = false; // It may have begun anew.
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

  get received() {
    return [...this.symbols.values()].reduce((sum, symbol) => sum + symbol.sequence, 0);
  }

  get priceRate() {
    if (!this.isOnline) return null;
    const rates = [...this.symbols.values()].map((symbol) => symbol.rate.at(-1) ?? null);
    const known = rates.filter((rate) => rate !== null);
    if (rates.length > 0 && known.length === 0) return null;
    return known.reduce((sum, rate) => sum + rate, 0);
  }
}

// --- The service

class WrongKeyError extends Error {}

class RefusedError extends Error {
  constructor(status) {
    super(`The service answers ${status}`);
    this.status = status;
  }
}

let apiKey = sessionStorage.getItem("fds-api-key") ?? "";

async function ask(path) {
  const headers = apiKey ? { "X-API-Key": apiKey } : {};
  let reply;
  try {
    const signal = AbortSignal.timeout(ANSWER_MS_MAX);
    reply = await fetch(path, { headers, signal, cache: "no-store" });
  } catch {
    throw new Error("The service does not answer");
  }
  if (reply.status === 401) throw new WrongKeyError((await reply.json()).detail);
  if (!reply.ok) throw new RefusedError(reply.status);
  return reply;
}

/** Follow the stream; returns, or fails with the reason, once it has ended. */
function watch(board, limits, onOpen) {
  const address = new URL("stream", document.baseURI);
  address.protocol = address.protocol.replace("http", "ws");
  if (apiKey) address.searchParams.set("api_key", apiKey);
  const socket = new WebSocket(address);
  const kMax = kMaxOf(limits); // The board's may be of before a restart.
  const params = Array.from({ length: kMax }, (_, i) => `stats.*.${i + 1}@${INTERVAL_MS}ms`);
  let problem = "The connection to the service is lost";
  const poll = setInterval(() => {
    look(board).catch((error) => {
      if (socket.readyState !== WebSocket.OPEN) return;
      problem = error.message;
      socket.close();
      onEnd(); // A host that is gone does not answer a farewell either.
    });
  }, POLL_MS);
  let onEnd;
  return new Promise((resolve, reject) => {
    onEnd = () => {
      clearInterval(poll);
      reject(new Error(problem));
    };
    socket.onopen = () => {
      socket.send(JSON.stringify({ method: "SUBSCRIBE", params, id: 1 }));
      onOpen();
      look(board).catch(() => {});
    };
    socket.onmessage = (event) => {
      try {
        board.take(JSON.parse(event.data));
      } catch (error) {
        problem = error.message;
        socket.close();
      }
      show();
    };
    socket.onclose = (event) => {
      if (event.reason) problem = `The service closed the connection: ${event.reason}`;
      onEnd();
    };
  });
}

/** Ask for what the stream does not tell; a service that hangs is found out by it as well. */
async function look(board) {
  await measure(board);
  await readRefused(board);
  show();
}

/** Ask which files are refused: their symbols are in no stream. */
async function readRefused(board) {
  try {
    board.refused = (await (await ask("readyz")).json()).refused ?? [];
  } catch {
    // What was known holds until an answer says otherwise.
  }
}

let counted = null;

/** Read off /metrics how long the service has been up, and how many requests it has answered. */
async function measure(board) {
  let reply;
  try {
    reply = await ask("metrics");
  } catch (error) {
    if (!NO_FIGURES.includes(error.status)) throw error;
    board.requestRate = null;
    return;
  }
  const now = Date.now();
  const text = await reply.text();
  const total = sumOf(text, "fds_requests_total");
  const starts = valuesOf(text, "process_start_time_seconds");
  const ahead = (Date.parse(reply.headers.get("date") ?? "") || now) - now; // of this clock
  const startedAt = 1000 * Math.min(...starts) - (Math.abs(ahead) > 2000 ? ahead : 0);
  board.startedAt = starts.length ? startedAt : null;
  if (counted && total >= counted.total) {
    board.requestRate = (1000 * (total - counted.total)) / (now - counted.at);
  }
  counted = { total, at: now };
}

function valuesOf(text, name) {
  return text
    .split("\n")
    .filter((line) => line.startsWith(name) && "{ ".includes(line[name.length]))
    .map((line) => Number(line.slice(line.lastIndexOf(" "))));
}

function sumOf(text, name) {
  return valuesOf(text, name).reduce((sum, value) => sum + value, 0);
}

async function follow(board) {
  let failures = 0;
  for (;;) {
    try {
      const limits = await (await ask("symbols")).json();
      await watch(board, limits, () => {
        board.begin(limits);
        failures = 0;
        show();
      });
    } catch (error) {
      if (error instanceof WrongKeyError) {
        await withoutKey(board, error.message);
        continue;
      }
      board.lose(error.message);
      show();
    }
    await pause(RETRY_MS[Math.min(failures++, RETRY_MS.length - 1)]);
  }
}

/** Say that the service wants a key, until there is another one. */
async function withoutKey(board, reason) {
  board.wantsKey = true;
  show();
  await askForKey(reason);
  board.wantsKey = false;
  show();
}

/** Wait, or less long if the network comes back. */
function pause(milliseconds) {
  return new Promise((resolve) => {
    setTimeout(resolve, milliseconds);
    addEventListener("online", resolve, { once: true });
  });
}

function askForKey(reason) {
  byId("metrics").hidden = true; // A link asks without the key.
  const form = byId("key-form");
  byId("key-problem").textContent = apiKey
    ? "That is not the key of this service."
    : "This service wants a key.";
  byId("key-problem").title = reason;
  form.hidden = false;
  byId("key").focus();
  return new Promise((resolve) => {
    form.onsubmit = (event) => {
      event.preventDefault();
      apiKey = byId("key").value;
      sessionStorage.setItem("fds-api-key", apiKey);
      form.hidden = true;
      resolve();
    };
  });
}

// --- The page

const board = new Board();
const sections = new Map();
let bands = BANDS_FIRST;
let isDue = false;

/** Bring the page up to date soon. */
function show() {
  if (isDue) return;
  isDue = true;
  setTimeout(() => requestAnimationFrame(() => {
    isDue = false;
    render();
  }), FRAME_MS);
}

function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function make(parent, tag, className = "", text = "") {
  const element = parent.appendChild(document.createElement(tag));
  if (className) element.className = className;
  if (text) element.textContent = text;
  return element;
}

function render() {
  for (const [name, section] of sections) {
    if (board.symbols.get(name) !== section.symbol) {
      section.remove();
      sections.delete(name);
    }
  }
  for (const [name, symbol] of board.symbols) {
    if (!sections.has(name)) addSection(name, symbol);
    sections.get(name).render();
  }
  renderState();
  renderRefused();
  const isEmpty = board.symbols.size === 0 && board.refused.length === 0;
  byId("hint").hidden = !board.isOnline || !isEmpty;
  byId("bands").hidden = board.symbols.size === 0;
}

/** Add a symbol where its name belongs. */
function addSection(name, symbol) {
  const section = new Section(symbol);
  const next = [...sections.keys()].filter((each) => each > name).sort()[0];
  if (next !== undefined) {
    sections.get(next).element.before(section.element);
    sections.get(next).link.before(section.link);
  }
  sections.set(name, section);
}

/** How the service is: a class, and in words. */
function serviceState() {
  const { isOnline, wantsKey, offlineSince, refused, startedAt } = board;
  if (wantsKey) return ["down", "needs the API key"];
  if (!isOnline) return offlineSince ? ["down", "not reachable"] : ["", "connecting …"];
  const up = startedAt ? `, up ${spanText((Date.now() - startedAt) / 1000)}` : "";
  return refused.length ? ["degraded", `degraded${up}`] : ["up", `online${up}`];
}

function renderState() {
  const { isOnline, wantsKey, offlineSince, problem, limits } = board;
  const online = byId("online");
  const [className, state] = serviceState();
  online.className = className;
  setText(online.lastElementChild, state);
  const notice = byId("notice");
  notice.hidden = isOnline || wantsKey || !offlineSince;
  if (!notice.hidden) {
    const stale = board.symbols.size ? " The numbers are those from before." : "";
    setText(notice, `${problem}: not reachable since ${clock(offlineSince)}, trying again.${stale}`);
  }
  document.body.classList.toggle("stale", !isOnline);
  if (!limits) return;
  setText(byId("symbols"), `${board.symbols.size} of ${limits.max_symbols}`);
  setText(byId("received"), fixed(board.received, 0));
  setText(byId("price-rate"), rateText(board.priceRate));
  setText(byId("request-rate"), rateText(board.requestRate));
  const age = board.updatedAt === null ? "–" : ageText(Date.now() - board.updatedAt);
  setText(byId("age"), age);
}

/** Name the files that cannot be served, and why; a list that is as it was is left alone. */
function renderRefused() {
  const element = byId("refused");
  const { refused } = board;
  const key = JSON.stringify(refused);
  if (element.dataset.key === key) return;
  element.dataset.key = key;
  element.hidden = refused.length === 0;
  const [list, count] = [element.querySelector("ul"), refused.length];
  const which = count === 1 ? "A file of the data directory" : `${count} files of the data directory`;
  setText(element.querySelector("p"), `${which} cannot be served:`);
  list.replaceChildren();
  for (const { file, reason } of refused) {
    const item = make(list, "li");
    make(item, "bdi", "", file);
    item.append(`: ${reason}`);
  }
}

function rateText(rate) {
  return rate === null ? "–" : brief(rate);
}

function ageText(milliseconds) {
  return milliseconds < 1000 ? "now" : `${spanText(milliseconds / 1000)} ago`;
}

/** What the page shows of one symbol. */
class Section {
  constructor(symbol) {
    this.symbol = symbol;
    this.element = make(byId("sections"), "section");
    this.element.id = `symbol-${encodeURIComponent(symbol.name)}`;
    this.element.dataset.symbol = symbol.name;
    const header = make(this.element, "header");
    make(make(header, "h2"), "bdi", "", symbol.name);
    this.last = make(header, "span", "last");
    this.pill = make(header, "div", "pill");
    this.pill.setAttribute("role", "meter");
    this.pill.setAttribute("aria-label", "Fill of the largest window");
    this.bar = make(this.pill, "i");
    this.pillText = make(this.pill, "span");
    this.makeTable();
    this.plots = new Plots(make(this.element, "div"));
    this.link = make(byId("index"), "a");
    this.link.href = `#${encodeURIComponent(this.element.id)}`;
    make(this.link, "bdi", "", symbol.name);
    this.linkLast = make(this.link, "output");
    this.drawnAt = 0;
  }

  makeTable() {
    const table = make(make(this.element, "div", "wide"), "table");
    const head = make(make(table, "thead"), "tr");
    for (const name of COLUMNS) make(head, "th", "", name).scope = "col";
    const body = make(table, "tbody");
    this.rows = this.symbol.windows.map((_, i) => {
      const row = make(body, "tr");
      row.dataset.k = i + 1;
      const cells = {};
      for (const name of COLUMNS) {
        cells[name] = make(row, name === "k" ? "th" : "td");
        cells[name].dataset.field = name;
      }
      cells.k.scope = "row";
      cells.k.textContent = i + 1;
      cells.meter = make(make(cells.fill, "span", "meter"), "i");
      cells.percent = make(cells.fill, "span");
      return { row, cells };
    });
  }

  remove() {
    this.element.remove();
    this.link.remove();
  }

  render() {
    const { symbol } = this;
    symbol.settle();
    if (symbol.hasNews) {
      symbol.hasNews = false;
      this.renderNumbers();
      this.plots.tell(symbol.now(bands, board.limits.largest_window), symbol.decimals);
    }
    if (symbol.arriving.size > 0) show();
    const sampledAt = symbol.times.at(-1) ?? 0;
    if (sampledAt !== this.drawnAt) {
      this.drawnAt = sampledAt;
      this.draw();
    }
  }

  draw() {
    this.plots.draw(this.symbol.history(bands, board.limits.largest_window));
  }

  renderNumbers() {
    const { symbol } = this;
    setText(this.last, priceText(symbol.last, symbol.decimals));
    setText(this.linkLast, priceText(symbol.last, symbol.decimals));
    const held = Math.min(symbol.sequence, board.limits.largest_window);
    const limit = board.limits.largest_window;
    this.bar.style.width = `${(100 * held) / limit}%`;
    const said = `${percentText(held, limit)} · ${fixed(held, 0)} of ${fixed(limit, 0)} prices`;
    setText(this.pillText, said);
    this.pill.setAttribute("aria-valuenow", held);
    this.pill.setAttribute("aria-valuemax", limit);
    this.pill.setAttribute("aria-valuetext", said);
    symbol.windows.forEach((window, i) => window && this.renderRow(this.rows[i], window));
    this.element.dataset.sequence = symbol.sequence;
  }

  renderRow({ row, cells }, window) {
    const { decimals } = this.symbol;
    const std = Math.sqrt(window.var);
    row.className = window.values < window.window ? "filling" : "";
    row.dataset.sequence = window.sequence;
    row.title = `As of price ${fixed(window.sequence, 0)}`;
    put(cells.window, window.window, fixed(window.window, 0));
    put(cells.values, window.values, fixed(window.values, 0));
    for (const name of ["min", "max", "last"]) {
      put(cells[name], window[name], priceText(window[name], decimals));
    }
    put(cells.avg, window.avg, priceText(window.avg, decimals + 2));
    put(cells.var, window.var, spreadText(window.var));
    put(cells.std, std, spreadText(std));
    const share = Math.min(1, window.values / window.window);
    cells.meter.style.width = `${100 * share}%`;
    setText(cells.percent, percentText(window.values, window.window));
    cells.fill.title = String(share);
  }
}

/** A number in a cell, and in full where the pointer rests on it. */
function put(cell, value, text) {
  if (cell.firstChild?.data === text && cell.value === value) return;
  cell.value = value;
  cell.textContent = text;
  cell.title = String(value);
}

function makeBands() {
  for (let k = 1; k <= board.kMax; k++) {
    const label = make(byId("bands"), "label");
    const box = make(label, "input");
    box.type = "checkbox";
    box.checked = bands.includes(k);
    box.style.setProperty("--colour", COLOURS[k - 1]);
    label.append(fixed(10 ** k, 0));
    box.onchange = () => {
      bands = box.checked ? [...bands, k].sort() : bands.filter((each) => each !== k);
      for (const section of sections.values()) section.draw();
    };
  }
}

/** Commands that work with this address, in whatever order: each fills a symbol of its own. */
function makeHint() {
  const root = new URL(".", document.baseURI).href;
  const body = '{"symbol": "TEST", "values": [64123.4, 64123.5, 64122.9]}';
  byId("hint").querySelector("pre").textContent =
    `curl ${quoted(`${root}add_batch/`)} -H 'Content-Type: application/json' \\\n     -d '${body}'\n\n` +
    `fds load examples/btcusdt-trades.csv --symbol BTC/USDT \\\n     --url ${quoted(root)}`;
}

/** A word as a shell takes it. */
function quoted(word) {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}

byId("metrics").hidden = apiKey !== "";
makeHint();
setInterval(() => {
  if (!board.limits) return;
  if (byId("bands").querySelectorAll("label").length !== board.kMax) {
    byId("bands").querySelectorAll("label").forEach((label) => label.remove());
    makeBands();
  }
  board.sample();
  show();
}, SAMPLE_MS);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  for (const section of sections.values()) section.draw();
});
follow(board);
