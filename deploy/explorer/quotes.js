// Reads and writes quotes as text: the columns of `volvae complete`, separated by commas, semicolons, tabs or blanks.
import { DAYS, ofDelta } from "./grid.js";

const PLAIN = ["tenor_years", "log_moneyness", "iv"]; // columns of text without a header
const KNOWN = ["tenor_years", "days", "log_moneyness", "call_delta", "strike", "forward", "iv", "weight"];
const MAX_QUOTES = 10_000;

/** {tenor, logMoneyness, iv, weight}, each a list of numbers; an Error names the row that is wrong. */
export const parse = (text) => {
  const lines = text.split(/\r?\n/).map((line) => line.trim()).filter((line) => line && !line.startsWith("#"));
  if (!lines.length) throw new Error("there are no quotes; paste lines of tenor_years, log_moneyness, iv");
  const separator = [";", "\t", ","].find((mark) => lines[0].includes(mark)) ?? /\s+/;
  const cells = lines.map((line) => line.split(separator).map((cell) => cell.trim().replace(/^"(.*)"$/, "$1")));
  const headed = Number.isNaN(Number(cells[0][0]));
  const names = headed ? cells.shift().map((name) => name.toLowerCase()) : PLAIN;
  if (!cells.length) throw new Error("there is a header, but no quote below it");
  if (cells.length > MAX_QUOTES) throw new Error(`${cells.length} quotes; allowed: 1 to ${MAX_QUOTES}`);
  const column = (name) => cells.map((row, i) => number(row[names.indexOf(name)], name, i + 1));
  const has = (name) => names.includes(name);
  const one = (...choices) => {
    const found = choices.filter(has);
    if (found.length !== 1) throw new Error(`quotes need exactly one column of ${choices.join(", ")}, not ${found.length}; known: ${KNOWN.join(", ")}`);
    return found[0];
  };

  const [time, position] = [one("tenor_years", "days"), one("log_moneyness", "call_delta", "strike")];
  for (const name of ["iv", ...(position === "strike" ? ["forward"] : [])]) one(name);
  const iv = within(column("iv"), "iv", 0, Infinity);
  const tenor = within(column(time), time, 0, Infinity).map((value) => (time === "days" ? value / DAYS : value));
  const weight = has("weight") ? within(column("weight"), "weight", 0, Infinity) : iv.map(() => 1);
  return { tenor, logMoneyness: logMoneynessFrom[position](column, iv, tenor), iv, weight };
};

const logMoneynessFrom = {
  log_moneyness: (column) => column("log_moneyness"),
  call_delta: (column, iv, tenor) =>
    within(column("call_delta"), "call_delta", 0, 1).map((delta, i) => ofDelta(delta, iv[i] * Math.sqrt(tenor[i]))),
  strike: (column) => {
    const forward = within(column("forward"), "forward", 0, Infinity);
    return within(column("strike"), "strike", 0, Infinity).map((strike, i) => Math.log(strike / forward[i]));
  },
};

const number = (cell, name, row) => {
  const value = cell ? Number(cell) : NaN;
  if (!Number.isFinite(value)) throw new Error(`row ${row}: ${name} is ${cell ? `"${cell}"` : "missing"}, not a number`);
  return value;
};

const within = (values, name, low, high) => {
  const row = values.findIndex((value) => !(value > low && value < high));
  if (row >= 0) throw new Error(`row ${row + 1}: ${name} is ${values[row]}; it must be ${high === 1 ? "inside (0, 1)" : "positive"}`);
  return values;
};

/** Quotes as text that `parse` reads. */
export const text = ({ tenor, logMoneyness, iv }) =>
  [PLAIN.join(","), ...tenor.map((years, i) => [years, logMoneyness[i], iv[i]].map((value) => +value.toPrecision(6)).join(","))].join("\n");
