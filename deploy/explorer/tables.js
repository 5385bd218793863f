// The tables beside the figures: the desk's numbers by tenor, static arbitrage, and the score.
import { TOLERANCE, violations } from "./arbitrage.js";
import { reader, tenorTitle } from "./grid.js";
import { marks } from "./marks.js";
import { at, line, plain, signed } from "./page.js";
import { verdict } from "./score.js";

const PERCENT = 100;
const COLUMNS = ["atm", "rr25", "bf25", "rr10", "bf10"];

/** At the money, risk reversals and butterflies in vol points; with another surface, the differences from it. */
export const showMarks = (grid, iv, other, chosen) => {
  const [smile, before] = [reader(grid, iv), other && reader(grid, other.iv)];
  const body = grid.tenors.map((tenor, i) => {
    const [found, then] = [smile(tenor), before?.(tenor)];
    const own = found ? marks(found) : {};
    const theirs = then ? marks(then) : {};
    const cells = COLUMNS.map((name) => (other ? signed(PERCENT * (own[name] - theirs[name])) : (name === "atm" ? plain : signed)(PERCENT * own[name])));
    return line([tenorTitle(tenor), ...cells], i === chosen ? "chosen" : "");
  });
  at("marks").querySelector("tbody").replaceChildren(...body);
  at("marks-note").textContent = other
    ? `Change from ${other.name}, in vol points.`
    : "In vol points; deltas are forward deltas, at the money is K = F.";
};

export const showChecks = (grid, iv) => {
  const found = violations(grid, iv);
  const free = found && Object.entries(found).every(([kind, { size }]) => size <= TOLERANCE[kind]);
  at("verdict").textContent = free ? "free of static arbitrage" : found ? "not free of static arbitrage" : "no surface: vols or strikes out of order";
  at("verdict").className = free ? "good" : "bad";
  const lines = Object.entries(found ?? {}).map(([kind, { size, tenor, k }]) => {
    const where = size > 0 ? `${tenorTitle(tenor)}, k = ${k.toFixed(2)}` : "";
    return line([kind, where, size ? size.toExponential(1) : "none"], size > TOLERANCE[kind] ? "bad" : "");
  });
  at("checks").querySelector("tbody").replaceChildren(...lines);
};

/** Show the percentiles of a surface, or null where it has too few points for them. */
export const showScore = (ranks) => {
  const { text, good } = verdict(ranks);
  showRanks(ranks, text, good ? "good" : "bad");
};

/** Show that the score of a new surface is not known yet, so that no verdict stands beside another surface. */
export const forgetScore = () => showRanks(null, "…", "");

const showRanks = (ranks, text, tone) => {
  at("score-verdict").textContent = text;
  at("score-verdict").className = tone;
  const names = { fit: "misfit", rarity: "distance of its latents", error: "largest error of a point" };
  const lines = Object.entries(names).map(([key, name]) => line([name, ranks ? `${plain(ranks[key], 1)} %` : "–"]));
  at("score").querySelector("tbody").replaceChildren(...lines);
};
