// The plots of one symbol: last price within avg ± std of each window, min–max bands, prices held,
// prices per second. Each is a canvas that is redrawn in place.
//
// It needs only a browser. Both pages use it. Colours come from the custom properties --ink, --muted
// and --line of the element.
//
// The data is a history, oldest sample first, null where nothing is known:
//   { times: [ms], last: […], held: […], heldMax, rate: […], decimals,
//     windows: [{ k, window, avg: […], std: […], min: […], max: […] }],
//     now: { last, held, rate, windows: [{ avg, std, min, max }] } }
//
// `now` is in the legends while there is no cursor. It may be newer than the newest sample, and it
// stays while the service cannot be reached.

import { make, setText } from "./elements.js";
import { brief, briefSpread, fixed, priceText } from "./numbers.js";

export const COLOURS = [
  "#e5534b", "#e0823d", "#4184e4", "#57ab5a", "#986ee2", "#c69026", "#2f9e9e", "#d1539a",
]; // of the windows 10, 100, …: neighbours differ, and each is visible on black and on white

const SPAN_MS_MIN = 30_000; // A short history is drawn at the right.
const MARGIN = { top: 8, right: 78, bottom: 20, left: 2 }; // More on the right for longer labels.
const NARROW = { width: 400, right: 60 }; // A plot on a phone has no room for a wide margin.
const LABEL_GAP = 8; // between the plot and the labels of its ticks
const MARGIN_STEP = 12; // A margin that changed with every digit would make the plot jump.
const DIGITS_MAX = 16; // after the first: enough to distinguish any two doubles
const FONT = "11px system-ui, sans-serif";

/** Return about `count` ticks between two values, at steps of 1, 2 or 5 times a power of ten. */
export function ticks(low, high, count) {
  const raw = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = power * [1, 2, 5, 10].find((each) => each * power >= raw * 0.999);
  if (!Number.isFinite(step) || step <= 0) return { step: 1, values: [] };
  const values = [];
  const first = Math.ceil(low / step);
  for (let i = 0; i < 20 && (first + i) * step <= high; i++) {
    const value = (first + i) * step + 0; // -0 + 0 is 0
    if (value !== values.at(-1)) values.push(value); // A step may be finer than a double.
  }
  return { step, values };
}

/** Return the lowest and highest value, with a little room. The range is never empty. */
function extent(columns, { floor, roomMin = 0 }) {
  let low = Infinity;
  let high = -Infinity;
  for (const column of columns) {
    for (const value of column) {
      if (value === null || !Number.isFinite(value)) continue;
      if (value < low) low = value;
      if (value > high) high = value;
    }
  }
  if (low > high) return [0, 1];
  if (floor !== undefined) low = Math.min(low, floor);
  const room = Math.max((high - low) * 0.06 || Math.abs(high) * 1e-6 || 0.5, roomMin);
  return [low === floor ? low : low - room, high + room];
}

/** One plot: a title, a legend with the values at the cursor, a canvas. */
class Panel {
  constructor(parent, title, group) {
    this.group = group;
    this.title = title;
    this.legendKey = null;
    this.values = [];
    const figure = make(parent, "figure");
    const caption = make(figure, "figcaption");
    make(caption, "b", "", title);
    this.legend = make(caption, "span", "legend");
    this.canvas = make(figure, "canvas");
    this.canvas.tabIndex = 0;
    this.canvas.setAttribute("role", "img");
    this.canvas.addEventListener("pointermove", (event) => this.point(event.offsetX));
    this.canvas.addEventListener("pointerleave", () => group.moveTo(null));
    this.canvas.addEventListener("blur", () => group.moveTo(null));
    this.canvas.addEventListener("keydown", (event) => this.press(event));
  }

  /** Move the cursor to the sample nearest to a place on the canvas. */
  point(x) {
    const { times } = this.group.data ?? {};
    if (!times?.length || !this.axis) return;
    const time = this.axis.begin + ((x - MARGIN.left) / this.axis.width) * this.axis.span;
    let index = times.findIndex((each) => each >= time);
    if (index < 0) index = times.length - 1;
    this.group.moveTo(index);
  }

  press(event) {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    const { times } = this.group.data ?? {};
    if (!step || !times?.length) return;
    event.preventDefault();
    const from = this.group.cursor ?? times.length - 1;
    this.group.moveTo(Math.min(Math.max(from + step, 0), times.length - 1));
  }

  /** Draw bands and lines over time. `format` returns the label of a tick. */
  draw({ bands = [], lines, format, limits = {} }) {
    const { times } = this.group.data;
    this.entries = [...lines, ...bands];
    this.tell();
    const width = this.canvas.clientWidth;
    const height = this.canvas.clientHeight;
    if (!width || !height) return; // The canvas is not visible.
    const context = this.prepare(width, height);
    const columns = [...lines.map((line) => line.values), ...bands.flatMap((b) => [b.low, b.high])];
    const [low, high] = extent(columns, limits);
    const end = times.at(-1);
    const begin = Math.min(times[0], end - SPAN_MS_MIN);
    const plot = { context, begin, low, high, span: end - begin };
    plot.height = height - MARGIN.top - MARGIN.bottom;
    const { step, values } = ticks(low, high, Math.max(plot.height / 28, 3.5));
    plot.ticks = values.map((value) => ({ value, label: format(value, step) }));
    const { right } = width < NARROW.width ? NARROW : MARGIN;
    plot.width = width - MARGIN.left - marginFor(plot, right);
    plot.x = (time) => MARGIN.left + ((time - plot.begin) / plot.span) * plot.width;
    plot.y = (value) => MARGIN.top + (1 - (value - low) / (high - low)) * plot.height;
    this.axis = plot;
    this.drawAxes(plot);
    context.save();
    context.beginPath();
    context.rect(MARGIN.left, 0, plot.width + 3, height - MARGIN.bottom + 1);
    context.clip();
    for (const band of bands) drawBand(plot, times, band);
    for (const line of lines) drawLine(plot, times, line.values, line.colour || this.ink, 1.6);
    if (this.group.cursor !== null) drawCursor(plot, times[this.group.cursor], this.muted);
    context.restore();
  }

  /** Size the canvas in the screen's pixels, clear it, and read the current colours. */
  prepare(width, height) {
    const ratio = globalThis.devicePixelRatio || 1;
    const pixels = [Math.round(width * ratio), Math.round(height * ratio)];
    if (this.canvas.width !== pixels[0] || this.canvas.height !== pixels[1]) {
      [this.canvas.width, this.canvas.height] = pixels;
    }
    const style = getComputedStyle(this.canvas);
    this.ink = style.getPropertyValue("--ink").trim() || "#888";
    this.muted = style.getPropertyValue("--muted").trim() || "#888";
    this.line = style.getPropertyValue("--line").trim() || "#8884";
    const context = this.canvas.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    context.font = FONT;
    return context;
  }

  drawAxes(plot) {
    const { context } = plot;
    context.fillStyle = this.muted;
    context.strokeStyle = this.line;
    context.lineWidth = 1;
    context.textAlign = "left";
    context.textBaseline = "middle";
    for (const { value, label } of plot.ticks) {
      const y = Math.round(plot.y(value)) + 0.5;
      stroke(context, MARGIN.left, y, MARGIN.left + plot.width, y);
      context.fillText(label, MARGIN.left + plot.width + LABEL_GAP, y);
    }
    this.drawTimes(plot);
  }

  drawTimes(plot) {
    const { context } = plot;
    const room = Math.max(2, Math.floor(plot.width / 90));
    const step = [5, 10, 15, 30, 60, 120, 300, 600].find((each) => plot.span / each / 1000 <= room);
    context.textBaseline = "alphabetic";
    context.textAlign = "center";
    const step_ms = (step ?? 1200) * 1000;
    const y = MARGIN.top + plot.height;
    for (let t = Math.ceil(plot.begin / step_ms) * step_ms; t <= plot.begin + plot.span; t += step_ms) {
      const x = plot.x(t);
      if (x < 28 || x > plot.width - 20) continue;
      stroke(context, x, y, x, y + 4);
      context.fillText(new Date(t).toLocaleTimeString("en-GB"), x, y + 16);
    }
    stroke(context, MARGIN.left, y + 0.5, MARGIN.left + plot.width, y + 0.5);
  }

  /** Write the values at the cursor into the legend; without a cursor, the values of now. */
  tell() {
    const { cursor, data } = this.group;
    const when = cursor === null ? "" : new Date(data.times[cursor]).toLocaleTimeString("en-GB");
    this.write(this.entries.map((each) => ({ ...each, text: each.tell(cursor) })), when);
  }

  /** Write the legend. Its elements are replaced only when the entries change. */
  write(entries, when) {
    const key = entries.map((entry) => entry.label).join("|");
    if (key !== this.legendKey) {
      this.legendKey = key;
      this.legend.replaceChildren();
      this.values = entries.map((entry) => {
        const item = make(this.legend, "span", "item");
        const mark = make(item, "i", entry.low ? "band" : "line");
        mark.style.background = entry.colour || "var(--ink)";
        item.append(`${entry.label} `);
        return make(item, "output");
      });
      this.when = make(this.legend, "span");
    }
    entries.forEach((entry, i) => setText(this.values[i], entry.text));
    setText(this.when, when);
    const said = entries.map((entry) => `${entry.label} ${entry.text}`).join(", ");
    this.canvas.setAttribute("aria-label", `${this.title}: ${said}`);
  }
}

/** Return the room on the right for the widest label. A cut label would be another number. */
function marginFor({ context, ticks }, least) {
  const widest = Math.max(0, ...ticks.map(({ label }) => context.measureText(label).width));
  const wanted = Math.ceil((widest + LABEL_GAP + 2) / MARGIN_STEP) * MARGIN_STEP;
  return Math.max(least, wanted);
}

function stroke(context, x0, y0, x1, y1) {
  context.beginPath();
  context.moveTo(x0, y0);
  context.lineTo(x1, y1);
  context.stroke();
}

function drawLine({ context, x, y }, times, values, colour, width) {
  context.strokeStyle = colour;
  context.lineWidth = width;
  context.lineJoin = "round";
  context.beginPath();
  let isDrawing = false;
  values.forEach((value, i) => {
    if (value === null) isDrawing = false;
    else if (isDrawing) context.lineTo(x(times[i]), y(value));
    else {
      context.moveTo(x(times[i]), y(value));
      isDrawing = true;
    }
  });
  context.stroke();
}

/** Fill between two lines, except in gaps, with an edge on both sides and a line in the middle. */
function drawBand(plot, times, { low, high, middle, colour }) {
  const { context, x, y } = plot;
  context.fillStyle = colour;
  context.globalAlpha = 0.13;
  let begin = 0;
  for (let i = 0; i <= times.length; i++) {
    if (i < times.length && low[i] !== null && high[i] !== null) continue;
    if (i > begin) {
      context.beginPath();
      for (let j = begin; j < i; j++) context.lineTo(x(times[j]), y(high[j]));
      for (let j = i - 1; j >= begin; j--) context.lineTo(x(times[j]), y(low[j]));
      context.fill();
    }
    begin = i + 1;
  }
  context.globalAlpha = 0.55;
  drawLine(plot, times, low, colour, 0.8);
  drawLine(plot, times, high, colour, 0.8);
  context.globalAlpha = 1;
  if (middle) drawLine(plot, times, middle, colour, 1.2);
}

function drawCursor({ context, x, height }, time, colour) {
  context.strokeStyle = colour;
  context.lineWidth = 1;
  context.setLineDash([3, 3]);
  stroke(context, x(time), MARGIN.top, x(time), MARGIN.top + height);
  context.setLineDash([]);
}

/** Return the label of a tick, with enough digits to distinguish it from its neighbours. */
function tickLabel(value, step) {
  if (value === 0) return "0";
  const size = Math.abs(value);
  const place = Math.floor(Math.log10(step) + 1e-9); // of the last digit that differs
  if (size < 1e15 && place >= -7) return fixed(value, Math.max(0, -place));
  const digits = Math.floor(Math.log10(size)) - place;
  return value.toExponential(Math.min(Math.max(digits, 0), DIGITS_MAX));
}

/** The four plots of one symbol, which share a cursor. */
export class Plots {
  constructor(parent) {
    parent.classList.add("plots");
    this.cursor = null;
    this.data = null;
    this.isDrawn = false;
    this.price = new Panel(parent, "Last price, avg ± std", this);
    this.range = new Panel(parent, "Min to max", this);
    this.held = new Panel(parent, "Prices held", this);
    this.rate = new Panel(parent, "Prices per second", this);
    this.isSeen = false; // Plots outside the viewport are drawn when they are scrolled into it.
    const observer = new IntersectionObserver(
      (entries) => {
        this.isSeen = entries.at(-1).isIntersecting;
        if (this.isSeen && this.data) this.draw(this.data);
      },
      { rootMargin: "25%" },
    );
    observer.observe(parent);
  }

  /** Move the cursor of all four plots to a sample; null removes it. */
  moveTo(index) {
    if (index === this.cursor) return;
    this.cursor = index;
    if (this.data) this.draw(this.data);
  }

  /** Draw a history. */
  draw(data) {
    this.data = data;
    if (!data.times.length || !this.isSeen) return;
    if (this.cursor !== null) this.cursor = Math.min(this.cursor, data.times.length - 1);
    const { last, windows } = data;
    const price = (value) => (isKnown(value) ? priceText(value, data.decimals) : "–");
    const tellLast = (i) => price(i === null ? data.now.last : last[i]);
    const lastLine = { label: "last", values: last, tell: tellLast };
    /** The value of a window at a sample, or now. */
    const valueOf = (j, name, i) => (i === null ? data.now.windows[j][name] : windows[j][name][i]);
    this.price.draw({
      lines: [lastLine],
      bands: windows.map((each, j) => deviations(each, price, (name, i) => valueOf(j, name, i))),
      format: tickLabel,
    });
    this.range.draw({
      lines: [lastLine],
      bands: windows.map((each, j) => ({
        label: fixed(each.window, 0),
        colour: COLOURS[each.k - 1],
        low: each.min,
        high: each.max,
        tell: (i) => `${price(valueOf(j, "min", i))} … ${price(valueOf(j, "max", i))}`,
      })),
      format: tickLabel,
    });
    this.held.draw({ lines: [heldLine(data)], format: tickLabel, limits: { roomMin: 2 } });
    const { rate } = data;
    const rateLine = { label: "", values: rate, colour: COLOURS[3] };
    rateLine.tell = (i) => {
      const value = i === null ? data.now.rate : rate[i];
      return isKnown(value) ? `${brief(value)}/s` : "–";
    };
    this.rate.draw({ lines: [rateLine], format: brief, limits: { floor: 0 } });
    this.isDrawn = true;
  }

  /** Update the legends between two samples. */
  tell(now, decimals) {
    if (!this.data) return;
    Object.assign(this.data, { now, decimals });
    if (!this.isDrawn || !this.isSeen) return;
    for (const panel of [this.price, this.range, this.held, this.rate]) panel.tell();
  }
}

function isKnown(value) {
  return value !== null && value !== undefined;
}

function deviations({ k, window, avg, std }, price, valueOf) {
  const off = (sign) => avg.map((value, i) => (value === null ? null : value + sign * std[i]));
  return {
    label: fixed(window, 0),
    colour: COLOURS[k - 1],
    middle: avg,
    low: off(-1),
    high: off(1),
    tell: (i) => {
      const deviation = valueOf("std", i);
      return isKnown(deviation) ? `${price(valueOf("avg", i))} ± ${briefSpread(deviation)}` : "–";
    },
  };
}

function heldLine(data) {
  const { held, heldMax } = data;
  const tell = (i) => {
    const value = i === null ? data.now.held : held[i];
    return isKnown(value) ? `${fixed(value, 0)} of ${fixed(heldMax, 0)}` : "–";
  };
  return { label: "", values: held, colour: COLOURS[2], tell };
}
