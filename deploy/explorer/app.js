// The explorer page: reads the controls, asks the model for a surface and draws it.
import { TOLERANCE, violations } from "./arbitrage.js";
import { drawSmiles, drawSurface, nearest } from "./figures.js";
import { csv, logMoneyness, tenorTitle } from "./grid.js";
import { Model, TokenError } from "./model.js";
import { check } from "./plausible.js";
import * as quotesText from "./quotes.js";

const SLIDER_RANGE = 4; // standard deviations of the prior on each side of 0
const RELAXATION = 1.5; // seconds in which the correlation of a random walk with its start falls to 1/e
const BASIS_POINTS = 1e4;
const EXAMPLES = 12; // quotes

const at = (id) => document.getElementById(id);
const make = (name, properties = {}, ...children) => {
  const element = Object.assign(document.createElement(name), properties);
  element.append(...children);
  return element;
};

let model;
let shown; // the surface on the page, {iv, z, std}; only a completed surface has std
let quotes = null; // of the last completion, with a flag `used` for each
let sliders = [];

const status = (text, bad = false) => {
  at("status").textContent = text;
  at("status").className = bad ? "bad" : "quiet";
};

/** Run an action, and show the message if it fails. */
const attempt = async (action, report = status) => {
  try {
    await action();
  } catch (error) {
    report(error.message, true);
  }
};

const open = async (token) => {
  try {
    model = await Model.load(token, status);
  } catch (error) {
    status(error.message, true);
    at("entry").hidden = !(error instanceof TokenError);
    return;
  }
  at("entry").hidden = true;
  build();
  document.querySelector("main").hidden = false;
  await draw(1n);
  status("");
};

/** Create the controls that depend on the model: sliders, conditions, tenors. */
const build = () => {
  const { tenors, nodes } = model.grid;
  at("about").textContent = `version ${model.version}: ${model.latents} latents, ${tenors.length} tenors × ${nodes.length} nodes`;
  sliders = Array.from({ length: model.latents }, (_, i) => {
    const slider = make("input", { type: "range", id: `z${i + 1}`, min: -SLIDER_RANGE, max: SLIDER_RANGE, step: 0.01 });
    slider.addEventListener("input", () => {
      stopWalking();
      move((requested ?? shown.z).with(i, Number(slider.value)));
    });
    return { slider, output: make("output", {}) };
  });
  at("latents").replaceChildren(...sliders.map(({ slider, output }) =>
    make("div", { className: "latent" }, make("label", { htmlFor: slider.id, textContent: slider.id }), slider, output)));
  at("conditions").replaceChildren(...model.conditions.map((name) =>
    make("div", { className: "condition" }, make("label", { htmlFor: `given-${name}`, textContent: name }),
      make("input", { type: "text", inputMode: "decimal", id: `given-${name}`, placeholder: "any" }))));
  if (model.markets.length) at("conditions").prepend(
    make("div", { className: "condition" }, make("label", { htmlFor: "market", textContent: "market, also of quotes" }),
      make("select", { id: "market" }, ...["any", ...model.markets].map((name, i) => new Option(name, i ? name : "")))));
  at("tenor").max = tenors.length - 1;
  at("tenor").value = nearest(model.grid, 0.5);
};

/** Show a surface in the figures, the sliders and the table of arbitrage checks. */
const show = (surface) => {
  shown = surface;
  sliders.forEach(({ slider, output }, i) => {
    const range = Math.max(SLIDER_RANGE, Math.ceil(Math.abs(surface.z[i])));
    Object.assign(slider, { min: -range, max: range, value: surface.z[i] });
    output.textContent = surface.z[i].toFixed(2);
  });
  drawSurface(at("surface"), model.grid, surface.iv);
  showSmiles();
  showChecks();
};

const showSmiles = () => {
  const chosen = Number(at("tenor").value);
  at("tenor-name").textContent = tenorTitle(model.grid.tenors[chosen]);
  at("tenor").setAttribute("aria-valuetext", at("tenor-name").textContent);
  drawSmiles(at("smiles"), model.grid, shown, chosen, quotes);
};

const showChecks = () => {
  const found = violations(model.grid, shown.iv);
  const free = found && Object.entries(found).every(([kind, { size }]) => size <= TOLERANCE[kind]);
  at("verdict").textContent = free ? "free of static arbitrage" : found ? "not free of static arbitrage" : "no surface: vols or strikes out of order";
  at("verdict").className = free ? "good" : "bad";
  const line = ([kind, { size, tenor, k }]) => {
    const bad = size > TOLERANCE[kind];
    const where = size > 0 ? `${tenorTitle(tenor)}, k = ${k.toFixed(2)}` : "";
    return make("tr", { className: bad ? "bad" : "" }, ...[kind, where, size ? size.toExponential(1) : "none"].map((textContent) => make("td", { textContent })));
  };
  at("checks").querySelector("tbody").replaceChildren(...Object.entries(found ?? {}).map(line));
};

let requested = null; // latest latents requested while a decode was running

/** Decode latents and show the surface, at most once per frame of the screen. */
const move = async (z) => {
  const busy = requested !== null;
  requested = z;
  if (busy) return;
  await attempt(async () => {
    for (let next = z; ; next = requested) {
      show(await model.decode(next));
      await new Promise(requestAnimationFrame);
      if (requested === next) break;
    }
  });
  requested = null;
};

/** The market that is chosen; none where all are meant. */
const market = () => at("market")?.value || null;

const draw = async (seed) => {
  stopWalking();
  const given = model.conditions.map((name) => {
    const text = at(`given-${name}`).value.trim();
    if (text && !Number.isFinite(Number(text))) throw new Error(`${name} is "${text}", not a number`);
    return text ? Number(text) : NaN;
  });
  at("seed").value = seed;
  show(await model.draw(seed, given, market()));
};

const sampleAgain = () => attempt(() => draw(BigInt(crypto.getRandomValues(new Uint32Array(1))[0])));

const drawSeed = () => attempt(async () => {
  const text = at("seed").value.trim();
  if (!/^\d{1,20}$/.test(text) || BigInt(text) >= 2n ** 64n) throw new Error(`the seed is "${text}"; allowed: whole numbers from 0 to 2^64 - 1`);
  await draw(BigInt(text));
  status("");
});

let walking = null; // identifies the walk that runs; null for none

const stopWalking = () => {
  walking = null;
  at("walk").setAttribute("aria-pressed", "false");
};

/** Move the latents along an Ornstein-Uhlenbeck process, whose stationary distribution is N(0, I). */
const walk = async () => {
  if (walking) return stopWalking();
  const self = (walking = {});
  at("walk").setAttribute("aria-pressed", "true");
  for (let before = performance.now(); walking === self; ) {
    await new Promise(requestAnimationFrame);
    const now = performance.now();
    const decay = Math.exp(-Math.min((now - before) / 1000, 0.1) / RELAXATION);
    before = now;
    if (walking === self) await move(shown.z.map((z) => decay * z + Math.sqrt(1 - decay * decay) * normal()));
  }
};

/** A standard normal random number, by the Box-Muller transform. */
const normal = () => Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random());

const fit = (text, bad = false) => {
  at("fit").textContent = text;
  at("fit").className = bad ? "bad" : "quiet";
};

const complete = () => attempt(async () => {
  stopWalking();
  const read = quotesText.parse(at("quotes").value, model.noise);
  check(model.limits, read);
  const found = await model.complete(read, market());
  const used = read.iv.map((_, i) => i).filter((i) => found.used[i]);
  if (!used.length) throw new Error("no quote is within reach of the grid");
  if (![...found.iv, ...found.std].every(Number.isFinite)) throw new Error("iv or weight is too large or too small: no finite surface goes with it");
  const [low, high] = model.limits.each_vol;
  if (found.iv.some((vol) => vol < low || vol > high)) throw new Error("the surface through these quotes has vols that cannot be: they are far outside of what the model learned; leave wrong ones out");
  quotes = { ...read, used: found.used };
  const counts = model.grid.tenors.map((_, i) => used.filter((q) => nearest(model.grid, read.tenor[q]) === i).length);
  at("tenor").value = counts.indexOf(Math.max(...counts));
  show(found);
  const errors = used.map((i) => BASIS_POINTS * Math.abs(found.fitted[i] - read.iv[i]));
  const median = BASIS_POINTS * Array.from(found.std).sort((a, b) => a - b)[found.std.length >> 1];
  fit(`${used.length} of ${read.iv.length} quotes used${used.length < read.iv.length ? ", the others are out of reach of the grid" : ""}; ` +
    `errors ${mean(errors).toFixed(1)} bp on average, ${Math.max(...errors).toFixed(1)} bp at most; median std of the surface ${median.toFixed(1)} bp${found.warning ? `. Warning: ${found.warning}` : ""}`, found.warning !== null);
}, fit);

const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;

/** Take quotes at random points of the shown surface, and complete them. */
const takeExample = () => {
  const k = logMoneyness(model.grid, shown.iv);
  const { tenors, nodes } = model.grid;
  const points = tenors.flatMap((_, i) => nodes.map((_, j) => ({ i, j, rank: Math.random() })));
  const chosen = points.sort((a, b) => a.rank - b.rank).slice(0, EXAMPLES);
  at("quotes").value = quotesText.text({
    tenor: chosen.map(({ i }) => tenors[i]),
    logMoneyness: chosen.map(({ i, j }) => k[i][j]),
    iv: chosen.map(({ i, j }) => shown.iv[i * nodes.length + j]),
  });
  return complete();
};

const clear = () => {
  at("quotes").value = "";
  quotes = null;
  fit("");
  showSmiles();
};

const download = () => {
  const url = URL.createObjectURL(new Blob([csv(model.grid, shown)], { type: "text/csv" }));
  make("a", { href: url, download: "surface.csv" }).click();
  setTimeout(() => URL.revokeObjectURL(url));
};

const reset = () => {
  stopWalking();
  return move(sliders.map(() => 0));
};

const buttons = { reset, walk, sample: sampleAgain, complete, example: takeExample, clear, download };
for (const [id, action] of Object.entries(buttons)) at(id).addEventListener("click", () => action());
at("draw").addEventListener("submit", (event) => {
  event.preventDefault();
  drawSeed();
});
at("tenor").addEventListener("input", showSmiles);
at("file").addEventListener("change", async ({ target }) => {
  const [file] = target.files;
  target.value = ""; // or a second choice of the same file would be no change
  if (!file) return;
  at("quotes").value = await file.text();
  await complete();
});
at("entry").addEventListener("submit", (event) => {
  event.preventDefault();
  open(at("token").value);
});
const KEYS = { r: reset, w: walk, s: sampleAgain, d: download };
document.addEventListener("keydown", ({ key, ctrlKey, metaKey, altKey, target }) => {
  const typing = target.matches("textarea, input:not([type='range'])");
  if (model && !typing && !ctrlKey && !metaKey && !altKey) KEYS[key.toLowerCase()]?.();
});

await open("");
