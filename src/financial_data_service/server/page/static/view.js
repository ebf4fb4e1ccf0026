// The view of a service: its state, its symbols, their windows and plots, in one element.
//
// The root page and the Streamlit page show the same view. It draws a model and asks for nothing:
//   { url, isOnline, wantsKey, problem, offlineSince, updatedAt, startedAt, now, requestRate,
//     limits: { max_symbols, largest_window }, refused: [{ file, reason }],
//     symbols: [{ name, sequence, last, windows: [stats or null, by k], history }] }
// Times are in ms; null stands for what is not known. `history` is what plots.js draws, but for
// `heldMax`, `decimals` and `now`. Names of symbols and files reach the page as text, never as HTML.

import { make, setText } from "./elements.js";
import { COLOURS, Plots } from "./plots.js";
import {
  Decimals, ageText, clockText, fixed, percentText, priceText, rateText, spanText, spreadText,
} from "./numbers.js";

const COLUMNS = ["k", "window", "values", "fill", "min", "max", "last", "avg", "var", "std"];
const BANDS_FIRST = [2, 3, 4]; // windows in the plots to begin with, as powers of ten

const MARKUP = `
  <dl id="state" aria-label="State of the service">
    <div><dt>service</dt><dd id="online" role="status"><i class="dot"></i><span>connecting …</span></dd></div>
    <div><dt>symbols</dt><dd id="symbols">–</dd></div>
    <div><dt>prices received</dt><dd id="received">–</dd></div>
    <div><dt>prices/s</dt><dd id="price-rate">–</dd></div>
    <div><dt>requests/s</dt><dd id="request-rate">–</dd></div>
    <div><dt>newest update</dt><dd id="age">–</dd></div>
  </dl>
  <p id="notice" role="alert" hidden></p>
  <div id="refused" role="alert" hidden>
    <p></p>
    <ul></ul>
  </div>
  <fieldset id="bands" hidden><legend>Windows in the plots</legend></fieldset>
  <nav id="index" aria-label="Symbols"></nav>
  <div id="hint" hidden>
    <p>No symbols yet. Send the first prices, or load a file:</p>
    <pre tabindex="0"></pre>
  </div>
  <div id="sections"></div>`;

export class View {
  /**
   * @param root the element to fill
   * @param onBands called with the windows chosen for the plots, as powers of ten
   */
  constructor(root, onBands, bands = BANDS_FIRST) {
    this.root = root;
    this.onBands = onBands;
    this.bands = bands;
    this.sections = new Map();
    this.model = null;
    root.innerHTML = MARKUP;
    const scheme = matchMedia("(prefers-color-scheme: dark)");
    scheme.addEventListener("change", () => this.sections.forEach((section) => section.redraw()));
  }

  find(id) {
    return this.root.querySelector(`#${id}`);
  }

  /** Show a model in place of the one before. */
  render(model) {
    this.model = model;
    this.renderState();
    this.renderNotice();
    this.renderRefused();
    this.renderBands();
    this.renderHint();
    this.renderSymbols();
  }

  renderState() {
    const { limits, symbols, updatedAt, now, requestRate } = this.model;
    const [className, state] = serviceState(this.model);
    const online = this.find("online");
    online.className = className;
    setText(online.lastElementChild, state);
    this.root.classList.toggle("stale", !this.model.isOnline);
    if (!limits) return;
    setText(this.find("symbols"), `${symbols.length} of ${limits.max_symbols}`);
    setText(this.find("received"), fixed(symbols.reduce((sum, each) => sum + each.sequence, 0), 0));
    setText(this.find("price-rate"), rateText(priceRate(this.model)));
    setText(this.find("request-rate"), rateText(requestRate));
    setText(this.find("age"), updatedAt === null ? "–" : ageText(now - updatedAt));
  }

  renderNotice() {
    const { isOnline, wantsKey, offlineSince, problem, symbols } = this.model;
    const notice = this.find("notice");
    notice.hidden = isOnline || !problem;
    if (notice.hidden) return;
    const stale = symbols.length ? " The numbers are those from before." : "";
    const since = wantsKey ? "." : `: not reachable since ${clockText(offlineSince)}, trying again.`;
    setText(notice, `${problem}${since}${stale}`);
  }

  /** Name the files that cannot be served, and why. An unchanged list is left alone. */
  renderRefused() {
    const { refused } = this.model;
    const element = this.find("refused");
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

  /** Offer the windows of the plots; there are others when the service has another largest window. */
  renderBands() {
    const { limits, symbols } = this.model;
    const element = this.find("bands");
    element.hidden = symbols.length === 0;
    const count = limits ? kMaxOf(limits) : 0;
    const labels = element.querySelectorAll("label");
    if (labels.length === count) return;
    labels.forEach((label) => label.remove());
    for (let k = 1; k <= count; k++) this.addBand(element, k);
  }

  addBand(element, k) {
    const label = make(element, "label");
    const box = make(label, "input");
    box.type = "checkbox";
    box.checked = this.bands.includes(k);
    label.style.setProperty("--colour", COLOURS[k - 1]);
    label.append(fixed(10 ** k, 0));
    box.onchange = () => {
      const others = this.bands.filter((each) => each !== k);
      this.bands = box.checked ? [...others, k].sort() : others;
      this.onBands(this.bands);
    };
  }

  renderHint() {
    const { isOnline, symbols, refused, url } = this.model;
    const hint = this.find("hint");
    hint.hidden = !isOnline || symbols.length > 0 || refused.length > 0;
    setText(hint.querySelector("pre"), commandsFor(url));
  }

  renderSymbols() {
    const { limits, symbols } = this.model;
    const names = new Set(symbols.map((symbol) => symbol.name));
    for (const [name, section] of this.sections) {
      if (!names.has(name)) this.removeSection(name, section);
    }
    for (const symbol of symbols) {
      const section = this.sections.get(symbol.name);
      if (section && section.rows.length !== symbol.windows.length) {
        this.removeSection(symbol.name, section);
      }
      if (!this.sections.has(symbol.name)) this.addSection(symbol);
      this.sections.get(symbol.name).render(symbol, limits.largest_window);
    }
  }

  removeSection(name, section) {
    section.remove();
    this.sections.delete(name);
  }

  /** Add a symbol where its name belongs. */
  addSection(symbol) {
    const section = new Section(this.find("sections"), this.find("index"), symbol);
    const next = [...this.sections.keys()].filter((each) => each > symbol.name).sort()[0];
    if (next !== undefined) {
      this.sections.get(next).element.before(section.element);
      this.sections.get(next).link.before(section.link);
    }
    this.sections.set(symbol.name, section);
  }
}

/** One symbol: heading, fill of the largest window, table of windows, plots. */
class Section {
  constructor(parent, index, symbol) {
    this.element = make(parent, "section");
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
    this.rows = makeRows(make(make(this.element, "div", "wide"), "table"), symbol.windows.length);
    this.plots = new Plots(make(this.element, "div"));
    this.makeLink(index, symbol.name);
    this.decimals = new Decimals(symbol.history);
    this.shown = null; // the windows in the table, and their decimals
    this.drawn = null; // the history in the plots
  }

  makeLink(index, name) {
    this.link = make(index, "a");
    this.link.href = `#${encodeURIComponent(this.element.id)}`;
    this.link.onclick = (event) => {
      event.preventDefault(); // A link does not find an element within a component.
      this.element.scrollIntoView();
    };
    make(this.link, "bdi", "", name);
    this.linkLast = make(this.link, "output");
  }

  remove() {
    this.element.remove();
    this.link.remove();
  }

  render(symbol, largestWindow) {
    if (symbol.last === null) return; // Nothing has come yet.
    const { windows, history } = symbol;
    const decimals = this.decimals.take(windows, history);
    const isNew = windows !== this.shown?.windows || decimals !== this.shown.decimals;
    if (isNew) {
      this.shown = { windows, decimals };
      this.renderNumbers(symbol, decimals, largestWindow);
    }
    const now = nowOf(symbol, largestWindow);
    const chosen = history.windows.map(({ k }) => k);
    const drawn = JSON.stringify([history.times.at(-1), chosen]);
    if (drawn !== this.drawn) {
      this.drawn = drawn;
      this.rows.forEach(({ row }, i) => row.classList.toggle("chosen", chosen.includes(i + 1)));
      this.plots.draw({ ...history, heldMax: largestWindow, decimals, now });
    } else if (isNew) {
      this.plots.tell(now, decimals);
    }
  }

  /** Draw once more, in other colours. */
  redraw() {
    if (this.plots.data) this.plots.draw(this.plots.data);
  }

  renderNumbers(symbol, decimals, largestWindow) {
    const last = priceText(symbol.last, decimals);
    setText(this.last, last);
    setText(this.linkLast, last);
    const held = Math.min(symbol.sequence, largestWindow);
    this.bar.style.width = `${(100 * held) / largestWindow}%`;
    const counts = `${fixed(held, 0)} of ${fixed(largestWindow, 0)} prices`;
    const text = `${percentText(held, largestWindow)} · ${counts}`;
    setText(this.pillText, text);
    this.pill.setAttribute("aria-valuenow", held);
    this.pill.setAttribute("aria-valuemax", largestWindow);
    this.pill.setAttribute("aria-valuetext", text);
    symbol.windows.forEach((window, i) => window && renderRow(this.rows[i], window, decimals));
    this.element.dataset.sequence = symbol.sequence;
  }
}

/** Make the table of a symbol, with empty rows. */
function makeRows(table, count) {
  const head = make(make(table, "thead"), "tr");
  for (const name of COLUMNS) {
    const heading = make(head, "th", "", name);
    heading.scope = "col";
    heading.dataset.field = name;
  }
  const body = make(table, "tbody");
  return Array.from({ length: count }, (_, i) => {
    const row = make(body, "tr");
    row.dataset.k = i + 1;
    row.style.setProperty("--colour", COLOURS[i]);
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

function renderRow({ row, cells }, window, decimals) {
  const std = Math.sqrt(window.var);
  row.classList.toggle("filling", window.values < window.window);
  row.dataset.sequence = window.sequence;
  row.title = `At price ${fixed(window.sequence, 0)}`;
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

/** Put a number in a cell, and all its digits where the pointer rests on it. */
function put(cell, value, text) {
  if (cell.firstChild?.data === text && cell.value === value) return;
  cell.value = value;
  cell.textContent = text;
  cell.title = String(value);
}

/** Return what the legends show while there is no cursor. */
function nowOf({ last, sequence, windows, history }, largestWindow) {
  return {
    last,
    held: Math.min(sequence, largestWindow),
    rate: history.rate.findLast((rate) => rate !== null) ?? null,
    windows: history.windows.map(({ k }) => {
      const { avg = null, min = null, max = null, var: variance } = windows[k - 1] ?? {};
      return { avg, min, max, std: variance === undefined ? null : Math.sqrt(variance) };
    }),
  };
}

/** Return the state of the service: a class, and words. */
function serviceState({ isOnline, wantsKey, offlineSince, refused, startedAt, now }) {
  if (wantsKey) return ["down", "needs the API key"];
  if (!isOnline) return offlineSince === null ? ["", "connecting …"] : ["down", "not reachable"];
  const up = startedAt === null ? "" : `, up ${spanText((now - startedAt) / 1000)}`;
  return refused.length ? ["degraded", `degraded${up}`] : ["up", `online${up}`];
}

/** Return the prices per second of all symbols; null while those of none are known. */
function priceRate({ isOnline, symbols }) {
  if (!isOnline) return null;
  const rates = symbols.map((symbol) => symbol.history.rate.at(-1) ?? null);
  const known = rates.filter((rate) => rate !== null);
  if (rates.length > 0 && known.length === 0) return null;
  return known.reduce((sum, rate) => sum + rate, 0);
}

/** Return the number of windows 10, 100, …; the largest window need not be one of them. */
export function kMaxOf(limits) {
  return String(limits.largest_window).length - 1;
}

/** Return commands for the first prices. Each fills a symbol of its own, so any order works. */
function commandsFor(url) {
  const root = url.replace(/\/*$/, "/");
  const body = '{"symbol": "TEST", "values": [64123.4, 64123.5, 64122.9]}';
  return (
    `curl ${quoted(`${root}add_batch/`)} -H 'Content-Type: application/json' \\\n     -d '${body}'\n\n` +
    `fds load examples/btcusdt-trades.csv --symbol BTC/USDT \\\n     --url ${quoted(root)}`
  );
}

/** Quote a word for a shell. */
function quoted(word) {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}
