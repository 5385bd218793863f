// The conditions of a sample: a number for each, which is also a slider where its range is known, and the market.
import { reader } from "./grid.js";
import { at, make } from "./page.js";

const SHARE = 0.02; // of samples beyond each end of a slider

/** Create the controls of a model; none of them is set. */
export const buildConditions = (conditions, markets) => {
  at("conditions").replaceChildren(...conditions.map((name) =>
    make("div", { className: "condition" }, make("label", { htmlFor: `given-${name}`, textContent: name }),
      make("input", { type: "text", inputMode: "decimal", id: `given-${name}`, placeholder: "any" }))));
  if (markets.length) at("conditions").prepend(
    make("div", { className: "condition" }, make("label", { htmlFor: "market", textContent: "market, also of quotes" }),
      make("select", { id: "market" }, ...["any", ...markets].map((name, i) => new Option(name, i ? name : "")))));
};

/** The market that is chosen; null where all are meant. */
export const market = () => at("market")?.value || null;

/** The numbers that are asked for, NaN for those that are free. */
export const given = (conditions) =>
  conditions.map((name) => {
    const text = at(`given-${name}`).value.trim();
    if (text && !Number.isFinite(Number(text))) throw new Error(`${name} is "${text}", not a number`);
    return text ? Number(text) : NaN;
  });

export const setGiven = (conditions, values, chosen) => {
  conditions.forEach((name, i) => {
    at(`given-${name}`).value = Number.isFinite(values[i]) ? values[i] : "";
  });
  if (at("market")) at("market").value = chosen ?? "";
};

const vol = (smile) => Math.sqrt(smile.at(0)[0] / smile.tenor);
const slope = (smile) => smile.at(0)[1] / (2 * smile.tenor * vol(smile));

/** The features of vae/surface/smile_features.py, which are known on grids in log-moneyness. */
const FEATURES = {
  atm_level: (smiles) => vol(smiles[smiles.length >> 1]),
  skew: (smiles) => slope(smiles[smiles.length >> 1]),
  term_slope: (smiles) => vol(smiles.at(-1)) - vol(smiles[0]),
};

/** Give each condition that is a known feature a slider over what samples have; a moved one calls `onMove`. */
export const addSliders = (grid, conditions, surfaces, onMove) => {
  if (grid.convention === "delta") return;
  const smiles = surfaces.map((iv) => grid.tenors.map(reader(grid, iv))).filter((each) => each.every(Boolean));
  for (const name of conditions.filter((one) => one in FEATURES)) {
    const found = smiles.map(FEATURES[name]).filter(Number.isFinite).sort((a, b) => a - b);
    if (found.length < 2) continue;
    const [low, high] = [SHARE, 1 - SHARE].map((share) => found[Math.floor(share * (found.length - 1))]);
    const text = at(`given-${name}`);
    const slider = make("input", { type: "range", id: `slide-${name}`, min: low, max: high, step: (high - low) / 200, value: (low + high) / 2 });
    slider.setAttribute("aria-label", `${name}, from ${low.toFixed(3)} to ${high.toFixed(3)}`);
    slider.addEventListener("input", () => {
      text.value = Number(slider.value).toFixed(4);
      onMove();
    });
    text.after(slider);
  }
};
