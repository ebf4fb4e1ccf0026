// Numbers in words: prices, spreads, shares, rates, ages. Pure functions, without the page.

const DECIMALS_MIN = 2; // cents at least
const DECIMALS_MAX = 8; // The satoshi is the finest tick traded.
const QUOTED_DIGITS_MAX = 12; // in all: no quote is longer
const COMPUTED_DIGITS = 6; // shown of prices that have more of either: they have been computed
const FLOAT64_DIGITS = 15; // that a double always holds

const formats = new Map();

/** Return a number with thousands separators and exactly `decimals` decimals. */
export function fixed(value, decimals) {
  let format = formats.get(decimals);
  if (!format) {
    const digits = { minimumFractionDigits: decimals, maximumFractionDigits: decimals };
    format = new Intl.NumberFormat("en-US", digits);
    formats.set(decimals, format);
  }
  return format.format(value);
}

/** Return a number in the few digits that are read at a glance. */
export function brief(value) {
  const size = Math.abs(value);
  if (size >= 1e15 || (size > 0 && size < 1e-6)) return value.toExponential(3);
  if (size >= 1000) return fixed(value, 0);
  return fixed(value, size >= 100 || Number.isInteger(value) ? 0 : 1);
}

/** Return a price with no more digits than a double holds. */
export function priceText(price, decimals) {
  const size = Math.abs(price);
  if (size >= 1e15 || (size > 0 && size < 1e-6)) return String(Number(price.toPrecision(9)));
  const digits = size >= 1 ? Math.floor(Math.log10(size)) + 1 : 1;
  return fixed(price, Math.max(0, Math.min(decimals, FLOAT64_DIGITS - digits)));
}

/** Return a variance or standard deviation in six significant digits. */
export function spreadText(value) {
  if (value === 0) return "0";
  if (value < 1e-4 || value >= 1e15) return value.toExponential(5);
  return fixed(value, Math.max(5 - Math.floor(Math.log10(value)), 0));
}

/** Return a standard deviation in three significant digits, or whole from 100 on. */
export function briefSpread(value) {
  return value >= 100 && value < 1e15 ? fixed(value, 0) : value.toPrecision(3);
}

/** Return a share in per cent, exact to six decimals. */
export function percentText(part, whole) {
  return `${Number(((100 * part) / whole).toFixed(6))} %`;
}

/** Return a duration in its two largest units. */
export function spanText(seconds) {
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

export function ageText(milliseconds) {
  return milliseconds < 1000 ? "now" : `${spanText(milliseconds / 1000)} ago`;
}

export function rateText(rate) {
  return rate === null ? "–" : brief(rate);
}

export function clockText(time) {
  return new Date(time).toLocaleTimeString("en-GB");
}

/** Return the decimals that show a price as it was sent, as far as that stays readable. */
export function decimalsOf(price) {
  const [mantissa, exponent] = Math.abs(price).toExponential().split("e"); // as few as are exact
  const digits = mantissa.replace(".", "").length;
  let wanted = digits - 1 - Number(exponent);
  if (wanted > DECIMALS_MAX || digits > QUOTED_DIGITS_MAX) {
    wanted = COMPUTED_DIGITS - 1 - Number(exponent);
  }
  return Math.min(Math.max(wanted, DECIMALS_MIN), DECIMALS_MAX);
}

/**
 * The decimals of the prices of one symbol: the most that any price needs, of those that are shown
 * now and those in the plots. So numbers do not change their width with every price.
 */
export class Decimals {
  constructor(history) {
    this.since = DECIMALS_MIN; // that prices have had since the newest sample
    this.samples = history.times.map((time, i) => {
      const last = history.last[i];
      return { time, decimals: last === null ? DECIMALS_MIN : decimalsOf(last) };
    });
  }

  /** Take in the prices that are shown now, and return the decimals of all. */
  take(windows, history) {
    const newest = history.times.at(-1) ?? 0;
    if (newest > (this.samples.at(-1)?.time ?? 0)) {
      this.samples.push({ time: newest, decimals: this.since });
      this.since = DECIMALS_MIN;
    }
    while (this.samples.length && this.samples[0].time < (history.times[0] ?? 0)) {
      this.samples.shift();
    }
    const prices = windows.filter(Boolean).flatMap(({ min, max, last }) => [min, max, last]);
    this.since = Math.max(this.since, ...prices.map(decimalsOf));
    return Math.max(this.since, ...this.samples.map(({ decimals }) => decimals));
  }
}
