// Reads and writes quotes as text, separated by commas, semicolons, tabs or blanks, in the layouts of docs/quotes.md.
import { columnsOf, instantOf, offsetOf, yearsOf } from "./columns.js";
import { NAMES } from "./column-names.js";
import { DAYS, ofDelta } from "./grid.js";

const PLAIN = ["tenor_years", "log_moneyness", "iv"]; // columns of text without a header
const MAX_QUOTES = 10_000;
const FAR = 0.7; // of ln K to the next strike, as pipeline/sources/mistyped_strikes.py has it
const FEWEST_STRIKES = 4; // of a tenor beside such a one
const SAME = 0.01; // relative, of two vols of one option, and of numbers of two readings
const TIMES = ["tenor_years", "days", "tenor", "expiry"];
const PLACES = ["log_moneyness", "moneyness", "call_delta", "delta", "strike"];

/** A quote that cannot be read: its row, counted from 1, and the name of its column. */
export class QuoteError extends Error {
  constructor(message, row = null, column = null) {
    super(message);
    Object.assign(this, { row, column });
  }
}

// Decimal marks and the numbers that can be read with them, alone or with thousands that one other mark separates, as
// pipeline/tables/numbers.py has them.
const MARKS = [".", ","];
const BLANKS = "[ \u00a0\u202f]";
const APOSTROPHES = "['\u2019]";
const pattern = (mark, other, ...more) => {
  const groups = [other, BLANKS, APOSTROPHES].map((thousands) => `[1-9]\\d{0,2}(${thousands}\\d{3})+([${mark}]\\d*)?`);
  return new RegExp(`^[-+]?(\\d*([${mark}]\\d*)?(e[-+]?\\d+)?|${[...groups, ...more].join("|")})$`, "i");
};
const NUMBERS = {
  ".": pattern(".", ",", "[1-9]\\d?(,\\d{2})+,\\d{3}(\\.\\d*)?"), // the last: groups of two, as India has them
  ",": pattern(",", "[.]"),
};
const isNumber = (cell, mark) => /\d/.test(cell) && NUMBERS[mark].test(cell);
const bare = (cell) => cell.replace(/\s*%$/, "");

/** The decimal marks without which some of the cells cannot be read. */
const shown = (cells) => MARKS.filter((mark, i) => cells.some((cell) => isNumber(bare(cell), mark) && !isNumber(bare(cell), MARKS[1 - i])));

/** The decimal mark of each column: the one that it shows, else the one that the text shows; null where neither tells. */
const marksOf = ({ names, cells }) => {
  const own = names.map((_, place) => shown(cells.map((row) => row[place] ?? "")));
  const all = [...new Set(own.flat())];
  const common = all.length === 1 ? all[0] : null;
  return own.map((marks) => (marks.length ? (marks.length === 1 ? marks[0] : null) : common));
};

const wrong = (row, column, message) => new QuoteError(`row ${row}: ${column} ${message}`, row, column);

/** The text of a file in UTF-8, UTF-16 or windows-1252, as pipeline/tables/text_file.py tells them apart. */
export const textOf = (bytes) => {
  const [first, second] = bytes;
  if (first === 0xfe && second === 0xff) return new TextDecoder("utf-16be").decode(bytes);
  const head = bytes.slice(0, 200).filter((_, i) => i % 2); // Latin letters in UTF-16 have a zero byte each
  if ((first === 0xff && second === 0xfe) || 2 * head.filter((byte) => byte === 0).length > head.length) return new TextDecoder("utf-16le").decode(bytes);
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    return new TextDecoder("windows-1252").decode(bytes);
  }
};

/**
 * The cells of a text: {names, cells}, as the text has them, the lines that they are of, the first the header, and
 * whether commas separate the cells.
 */
export const table = (text) => {
  const lines = text.split(/\r?\n/).map((line) => line.trim()).filter((line) => line && !line.startsWith("#"));
  if (!lines.length) throw new QuoteError("there are no quotes; paste lines of tenor_years, log_moneyness, iv");
  const separator = [";", "\t", "|", ","].find((mark) => lines[0].includes(mark)) ?? /\s+/;
  const outside = separator instanceof RegExp ? separator : new RegExp(`[${separator}](?=(?:[^"]*"[^"]*")*[^"]*$)`); // of quotation marks
  const cells = lines.map((line) => line.split(outside).map((cell) => cell.trim().replace(/^"(.*)"$/, "$1")));
  const headed = !MARKS.some((mark) => isNumber(cells[0][0], mark));
  const names = headed ? cells.shift() : PLAIN;
  if (!cells.length) throw new QuoteError("there is a header, but no quote below it");
  if (cells.length > MAX_QUOTES) throw new QuoteError(`${cells.length} quotes; allowed: 1 to ${MAX_QUOTES}`);
  const long = cells.findIndex((row) => row.length > names.length);
  if (long >= 0) throw new QuoteError(`row ${long + 1} has ${cells[long].length} cells for ${names.length} columns; with decimal commas, separate the columns by semicolons`, long + 1);
  return { names, cells, lines: headed ? lines : [PLAIN.join(","), ...lines], commas: separator === "," };
};

/** What tells dates apart: the day, or the text of a date that cannot be read. */
const dayOf = (cell) => {
  const instant = instantOf(cell);
  return instant === null ? cell : Math.floor(instant);
};

/** The dates of a text, rising, behind those that cannot be read, which stand in the order of their letters. */
export const dates = (text) => {
  const { names, cells } = table(text);
  const place = placeOf({ names, cells }, "date");
  const found = place < 0 ? [] : [...new Map(cells.map((row) => [dayOf(row[place] ?? ""), row[place] ?? ""]))];
  const isRead = (day) => Number(typeof day === "number");
  const order = ([one], [other]) => isRead(one) - isRead(other) || (one < other ? -1 : 1);
  return found.sort(order).map(([, date]) => date);
};

/** The quotes of one date of a text. */
export const ofDate = (text, date) => {
  const { names, cells, lines } = table(text);
  const place = placeOf({ names, cells }, "date");
  return [lines[0], ...lines.slice(1).filter((_, i) => dayOf(cells[i][place] ?? "") === dayOf(date))].join("\n");
};

/**
 * {tenor, logMoneyness, iv, weight, forward, date}, lists of numbers but for the date of the first row; a QuoteError names
 * the row that is wrong. Without a column, the forward and the date are null, and so is the weight where nothing is known
 * of the noise. Quotes of bid and ask have both as lists of vols too. `rows` are the places of the quotes in the text, from
 * 0, `repeated` counts those that repeat one, and `note` says what is not looked into.
 *
 * A quote of bid_iv and ask_iv is their mean, and half their spread its noise: its weight is (noise / half the spread)^2,
 * at most 1; `noise` is that of a quote of weight 1. Vols are decimal, or percent where `unit` is "percent", their column
 * is named so, or their cells end with %.
 *
 * `check` throws where quotes cannot be. Where commas separate the cells and no number shows what its own comma is, it is
 * what makes quotes; where both readings do, and differ, a QuoteError says so.
 */
export const parse = (text, noise, unit = "decimal", check = () => {}) => {
  const read = table(text);
  const columns = columnsOf(read.names, read.cells);
  const quotesBy = (marks) => {
    const found = quotesOf(read.cells, columns, marks, noise, unit);
    check(found);
    return distinct(found, columns.some(({ name }) => name === "weight"));
  };
  const marks = marksOf(read);
  const unclear = read.commas && marks.every((mark) => !mark) && firstUnclear(read.cells, columns);
  if (!unclear) return quotesBy(marks);
  const [points, commas] = MARKS.map((mark) => {
    try {
      return quotesBy(marks.map(() => mark));
    } catch (error) {
      return error;
    }
  });
  if (points instanceof Error) {
    if (commas instanceof Error) throw points;
    return commas;
  }
  if (!(commas instanceof Error) && !areSame(points, commas, columns.some(({ name }) => name === "strike"))) throw unclear;
  return points;
};

/** What is wrong with the first cell of a canonical column whose comma may be a decimal mark; undefined for none. */
const firstUnclear = (cells, columns) => {
  for (const [i, row] of cells.entries()) {
    const place = columns.findIndex(({ name }, j) => name in NAMES && bare(row[j] ?? "").includes(",") && isNumber(bare(row[j]), "."));
    if (place >= 0) return unclearMark(row[place], columns[place].name, i + 1);
  }
};

/** Whether two readings are of the same quotes; strikes and their forwards may both be in other units. */
const areSame = (one, other, byStrike) =>
  one.rows.length === other.rows.length &&
  ["tenor", "iv", "weight", ...(byStrike ? [] : ["forward"])].every((name) => (one[name] ?? []).every((value, i) => Math.abs(value - other[name][i]) <= SAME * value)) &&
  one.logMoneyness.every((k, i) => Math.abs(k - other.logMoneyness[i]) <= SAME);

const quotesOf = (cells, columns, marks, noise, unit) => {
  const has = (name) => columns.some((column) => column.name === name);
  for (const { name } of columns) {
    if (name in NAMES && columns.filter((other) => other.name === name).length > 1) throw new QuoteError(`two columns are ${name}; leave one out`);
  }
  const either = columns.find(({ fits }) => ["log_moneyness", "strike"].every((name) => fits.includes(name)));
  if (either && has("forward")) throw new QuoteError(`column ${either.written} may be strike or log_moneyness; name it as one of them`);
  const place = (name) => columns.findIndex((column) => column.name === name);
  const words = (name) => cells.map((row) => row[place(name)] ?? "");
  const column = (name) => words(name).map((cell, i) => number(cell, marks[place(name)], name, i + 1));
  const one = (...choices) => {
    const found = choices.filter(has);
    if (found.length !== 1) throw new QuoteError(`quotes need exactly one column of ${choices.join(", ")}, not ${found.length}; known: ${Object.keys(NAMES).join(", ")}`);
    return found[0];
  };
  const days = has("date") ? words("date").map(dayOf) : [];
  const other = days.findIndex((day) => day !== days[0]);
  if (other >= 0) throw wrong(other + 1, "date", `is "${words("date")[other]}", another than in row 1; one surface has the quotes of one date: paste those, or open the file, which asks for the date`);
  const vols = (name) => within(words(name).map((cell, i) => vol(cell, marks[place(name)], name, i + 1, unit === "percent" || columns[place(name)].inPercent)), name, 0, Infinity);

  const [time, position] = [one(...TIMES), one(...PLACES)];
  for (const name of [one("iv", "bid_iv") === "bid_iv" ? "ask_iv" : "iv", ...(position === "strike" ? ["forward"] : []), ...(time === "expiry" ? ["date"] : [])]) one(name);
  const [bid, ask] = (has("iv") ? ["iv", "iv"] : ["bid_iv", "ask_iv"]).map(vols);
  const crossed = bid.findIndex((value, i) => value > ask[i]);
  if (crossed >= 0) throw wrong(crossed + 1, "bid_iv", `${bid[crossed]} is above ask_iv ${ask[crossed]}`);
  const iv = bid.map((value, i) => 0.5 * (value + ask[i]));
  const tenor = within(tenorFrom[time](column, words), time, 0, Infinity);
  const ofSpread = (value, i) => Math.min(1, (noise / (0.5 * (ask[i] - value))) ** 2);
  const weight = has("weight") ? within(column("weight"), "weight", 0, Infinity) : has("iv") ? null : bid.map(ofSpread);
  const forward = has("forward") ? within(column("forward"), "forward", 0, Infinity) : null;
  const logMoneyness = logMoneynessFrom[position](column, words, iv, tenor, forward);
  const rows = iv.map((_, i) => i);
  const note = position.endsWith("delta") ? "" : noteOfStrikes(tenor, logMoneyness, position);
  return { tenor, logMoneyness, iv, weight, forward, rows, note, repeated: 0, date: has("date") ? words("date")[0] : null, ...(has("bid_iv") && { bid, ask }) };
};

/** That a strike stands alone, far from the others of its tenor, as one with a digit too many or too few does; else empty. */
const noteOfStrikes = (tenor, logMoneyness, name) => {
  const smiles = new Map();
  tenor.forEach((years, i) => smiles.set(years, [...(smiles.get(years) ?? []), i]));
  const ends = [...smiles.values()].flatMap((own) => {
    const rising = own.sort((i, j) => logMoneyness[i] - logMoneyness[j]);
    return rising.length > FEWEST_STRIKES ? [rising, [...rising].reverse()] : [];
  });
  const alone = ends.find(([far, next]) => Math.abs(logMoneyness[far] - logMoneyness[next]) > FAR);
  return alone ? `row ${alone[0] + 1}: ${name} lies far from all others of its tenor; \`volvae complete\` looks whether a digit is wrong, this page does not` : "";
};

/**
 * The first quote of each tenor and strike: a call and a put say the same vol, which counts once, or as often as their
 * weights say. A QuoteError where they are at different levels, which one surface cannot have.
 */
const distinct = (quotes, weighted) => {
  const { tenor, logMoneyness, iv } = quotes;
  const first = new Map();
  iv.forEach((vol, i) => {
    const option = `${tenor[i].toPrecision(9)} ${logMoneyness[i].toFixed(9)}`;
    const before = first.get(option) ?? i;
    if (Math.abs(vol - iv[before]) > SAME * vol) {
      const [own, other] = [vol, iv[before]].map((one) => +one.toPrecision(6));
      throw wrong(i + 1, "iv", `is ${own}, but row ${before + 1}, of the same tenor and strike, has ${other}; leave one of them out`);
    }
    first.set(option, before);
  });
  if (weighted) return quotes;
  const kept = [...first.values()];
  const lists = Object.entries(quotes).map(([name, value]) => [name, Array.isArray(value) ? kept.map((i) => value[i]) : value]);
  return { ...Object.fromEntries(lists), repeated: iv.length - kept.length };
};

const tenorFrom = {
  tenor_years: (column) => column("tenor_years"),
  days: (column) => column("days").map((days) => days / DAYS),
  tenor: (column, words) =>
    words("tenor").map((cell, i) => {
      const years = yearsOf(cell);
      if (years === null) throw wrong(i + 1, "tenor", `is "${cell}"; allowed: ON, or days, weeks, months or years such as 2W, 3M or 1Y; numbers are tenor_years or days`);
      return years;
    }),
  expiry: (_, words) => {
    const instants = ["date", "expiry"].map((name) => words(name).map((cell, i) => instant(cell, name, i + 1)));
    const timed = instants.every((list) => list.some((one) => one % 1)); // else whole days, as the commands count
    const [starts, dated] = timed ? instants : instants.map((list) => list.map(Math.floor));
    const ends = timed ? onClockOfQuotes(dated, words) : dated;
    const other = starts.findIndex((start) => start !== starts[0]);
    if (other >= 0) throw wrong(other + 1, "date", "has another time of day than row 1; one surface has the quotes of one time");
    const past = ends.findIndex((end) => end <= starts[0]);
    if (past >= 0) throw wrong(past + 1, "expiry", `is not after the date`);
    return ends.map((end) => (end - starts[0]) / DAYS);
  },
};

/** Expiries on the clock of the quotes, where both say how far theirs is ahead of UTC; a date has no clock. */
const onClockOfQuotes = (ends, words) => {
  const [quoted, ahead] = ["date", "expiry"].map((name) => words(name).map(offsetOf));
  const isTime = (end, i) => end % 1 !== 0 || ahead[i] !== null;
  const lacking = ends.findIndex((end, i) => isTime(end, i) && (quoted[i] === null) !== (ahead[i] === null));
  if (lacking >= 0) throw wrong(lacking + 1, quoted[lacking] === null ? "date" : "expiry", "is a time without an offset from UTC, which the other has; write both with offsets or both without, on one clock");
  return ends.map((end, i) => (ahead[i] !== null ? end + quoted[i] - ahead[i] : end));
};

const instant = (cell, name, row) => {
  const found = instantOf(cell);
  const serial = /^\d{5}(\.\d*)?$/.test(cell) ? "; days as Excel counts them are read by the commands, not by this page" : "";
  if (found === null) throw wrong(row, name, `is "${cell}"; it must be a date such as 2026-03-02${serial}`);
  return found;
};

const logMoneynessFrom = {
  log_moneyness: (column) => column("log_moneyness"),
  moneyness: (column) => within(column("moneyness"), "moneyness", 0, Infinity).map(Math.log),
  call_delta: (column, _, iv, tenor) => fromDeltas(column("call_delta"), "call_delta", iv, tenor),
  delta: (_, words, iv, tenor) => fromDeltas(words("delta").map((cell, i) => delta(cell, i + 1)), "delta", iv, tenor),
  strike: (column, _, iv, tenor, forward) => within(column("strike"), "strike", 0, Infinity).map((strike, i) => Math.log(strike / forward[i])),
};

const fromDeltas = (deltas, name, iv, tenor) => within(deltas, name, 0, 1).map((one, i) => ofDelta(one, iv[i] * Math.sqrt(tenor[i])));

/** A forward call delta of a label: 25C, 10P, and 25P for the put whose call has 0.75. */
const delta = (cell, row) => {
  const match = cell.toUpperCase().match(/^(\d+(?:\.\d+)?)\s*D?\s*(C|P|CALL|PUT)$/);
  if (!match) throw wrong(row, "delta", `is "${cell}"; allowed: 25C, 10P and the like; a number is call_delta, at the money is log_moneyness 0`);
  return match[2][0] === "C" ? match[1] / 100 : 1 - match[1] / 100;
};

const vol = (cell, mark, name, row, inPercent) => {
  const value = number(bare(cell), mark, name, row);
  return cell.endsWith("%") || inPercent ? value / 100 : value;
};

const number = (cell, mark, name, row) => {
  if (!cell) throw wrong(row, name, "is missing, not a number");
  if (!MARKS.some((one) => isNumber(cell, one))) throw wrong(row, name, `is "${cell}", not a number`);
  if (!mark && /[.,]/.test(cell)) throw unclearMark(cell, name, row);
  if (mark && !isNumber(cell, mark)) throw wrong(row, name, `is "${cell}", no number with the decimal mark "${mark}" that others show`);
  const [decimal, thousands] = mark === "," ? [",", "."] : [".", ","];
  const digits = [thousands, " ", "\u00a0", "\u202f", "'", "\u2019"].reduce((left, sign) => left.replaceAll(sign, ""), cell);
  const value = Number(digits.replace(decimal, "."));
  if (!Number.isFinite(value)) throw wrong(row, name, `is "${cell}", not a number`);
  return value;
};

const unclearMark = (cell, name, row) =>
  wrong(row, name, `is "${cell}", decimals or thousands; write decimals with a point and not three of them, such as 1.0850, and thousands without a mark`);

const within = (values, name, low, high) => {
  const row = values.findIndex((value) => !(value > low && value < high));
  if (row >= 0) throw wrong(row + 1, name, `is ${values[row]}; it must be ${high === 1 ? "inside (0, 1)" : "positive"}`);
  return values;
};

/** Quotes as text that `parse` reads. */
export const text = ({ tenor, logMoneyness, iv }) =>
  [PLAIN.join(","), ...tenor.map((years, i) => [years, logMoneyness[i], iv[i]].map((value) => +value.toPrecision(6)).join(","))].join("\n");

/** The place of a canonical column in a table; -1 for none. */
export const placeOf = ({ names, cells }, column) => columnsOf(names, cells).findIndex(({ name }) => name === column);
