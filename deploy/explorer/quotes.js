// Reads and writes quotes as text: canonical columns of docs/quotes.md, separated by commas, semicolons, tabs or blanks.
import { DAYS, ofDelta } from "./grid.js";

const PLAIN = ["tenor_years", "log_moneyness", "iv"]; // columns of text without a header
const KNOWN = ["tenor_years", "days", "log_moneyness", "call_delta", "strike", "forward", "iv", "bid_iv", "ask_iv", "weight"];
const MAX_QUOTES = 10_000;

/**
 * {tenor, logMoneyness, iv, weight}, each a list of numbers; an Error names the row that is wrong. The weight is null
 * where nothing is known of the noise.
 *
 * A quote of bid_iv and ask_iv is their mean, and half their spread its noise: its weight is (noise / half the spread)^2,
 * at most 1; `noise` is that of a quote of weight 1. In lines with semicolons or tabs a comma is a decimal mark.
 */
export const parse = (text, noise) => {
  const lines = text.split(/\r?\n/).map((line) => line.trim()).filter((line) => line && !line.startsWith("#"));
  if (!lines.length) throw new Error("there are no quotes; paste lines of tenor_years, log_moneyness, iv");
  const separator = [";", "\t", ","].find((mark) => lines[0].includes(mark)) ?? /\s+/;
  const decimal = separator === ";" || separator === "\t" ? (cell) => cell.replace(/^(-?\d*),(\d+)$/, "$1.$2") : (cell) => cell;
  const cells = lines.map((line) => line.split(separator).map((cell) => cell.trim().replace(/^"(.*)"$/, "$1")));
  const headed = Number.isNaN(Number(decimal(cells[0][0])));
  const names = headed ? cells.shift().map((name) => name.toLowerCase()) : PLAIN;
  if (!cells.length) throw new Error("there is a header, but no quote below it");
  if (cells.length > MAX_QUOTES) throw new Error(`${cells.length} quotes; allowed: 1 to ${MAX_QUOTES}`);
  const long = cells.findIndex((row) => row.length > names.length);
  if (long >= 0) throw new Error(`row ${long + 1} has ${cells[long].length} cells for ${names.length} columns; with decimal commas, separate the columns by semicolons`);
  const column = (name) => cells.map((row, i) => number(decimal(row[names.indexOf(name)] ?? ""), name, i + 1));
  const has = (name) => names.includes(name);
  const one = (...choices) => {
    const found = choices.filter(has);
    if (found.length !== 1) throw new Error(`quotes need exactly one column of ${choices.join(", ")}, not ${found.length}; known: ${KNOWN.join(", ")}; \`volvae complete\` reads other layouts`);
    return found[0];
  };

  const [time, position] = [one("tenor_years", "days"), one("log_moneyness", "call_delta", "strike")];
  for (const name of [one("iv", "bid_iv") === "bid_iv" ? "ask_iv" : "iv", ...(position === "strike" ? ["forward"] : [])]) one(name);
  const [bid, ask] = (has("iv") ? ["iv", "iv"] : ["bid_iv", "ask_iv"]).map((name) => within(column(name), name, 0, Infinity));
  const crossed = bid.findIndex((vol, i) => vol > ask[i]);
  if (crossed >= 0) throw new Error(`row ${crossed + 1}: bid_iv ${bid[crossed]} is above ask_iv ${ask[crossed]}`);
  const iv = bid.map((vol, i) => 0.5 * (vol + ask[i]));
  const tenor = within(column(time), time, 0, Infinity).map((value) => (time === "days" ? value / DAYS : value));
  const ofSpread = (vol, i) => Math.min(1, (noise / (0.5 * (ask[i] - vol))) ** 2);
  const weight = has("weight") ? within(column("weight"), "weight", 0, Infinity) : has("iv") ? null : bid.map(ofSpread);
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
