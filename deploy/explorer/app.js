// The explorer page: reads the controls, asks the model for a surface and draws it.
import * as address from "./address.js";
import { AXES } from "./axes.js";
import { rendered } from "./card.js";
import { clearChart, paint } from "./chart.js";
import { addSliders, buildConditions, given, market, setGiven } from "./conditions.js";
import { drawFan, drawn } from "./fans.js";
import { drawSmiles, drawSurface } from "./figures.js";
import { csv, logMoneyness, nearest, readCsv, tenorTitle } from "./grid.js";
import { buildLatents, describeLatents, showLatents } from "./latents.js";
import { Model, TokenError } from "./model.js";
import { at, attempt, say, status } from "./page.js";
import { check } from "./plausible.js";
import { QUANTITIES } from "./quantities.js";
import { clearQuoteTable, showErrors, showWrong } from "./quote-table.js";
import * as quotesText from "./quotes.js";
import { paintRelief, seenFrom, turnTo } from "./relief.js";
import { picture, saveAs } from "./save.js";
import { forgetScore, showChecks, showMarks, showScore } from "./tables.js";

const RELAXATION = 1.5; // seconds in which the correlation of a random walk with its start falls to 1/e
const BASIS_POINTS = 1e4;
const EXAMPLES = 12; // quotes
const SAMPLES = 200; // that say what a slider of a condition may be
const SETTLED = 150; // milliseconds without another surface, after which its score is computed

let model;
let shown; // the surface on the page, {iv, z, std}; only a completed surface has std
let source; // where it comes from, as address.js has it
let kept = null; // a surface to compare with, {iv, source}
let before = null; // the surface of the state that a completion starts from
let start = null; // the state from which completions start; null for the newest of the model
let reached = null; // the state after the last completion from one
let quotes = null; // of the last completion, with a flag `used` for each
let scenarios = null; // that were drawn

const fit = say("fit");
const settings = () => ({ axis: at("axis").value, quantity: at("quantity").value, forward: forward() });

/** What an address says beside: from where the surface is seen, and the scenarios. */
const seen = () => ({
  from: seenFrom(at("surface")).map((angle) => +angle.toFixed(3)),
  ...(scenarios && { days: scenarios.steps, fan: at("fan-of").value }),
});

const forward = () => {
  const value = Number(at("forward").value.trim());
  const good = value > 0 && Number.isFinite(value);
  at("forward").setAttribute("aria-invalid", String(!good));
  return good ? value : Number(at("forward").dataset.last ?? 100);
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
  status("");
  await attempt(() => restore(location.hash));
  if (!shown) await attempt(() => draw(1n));
  await attempt(async () => {
    await describeLatents(model);
    if (model.conditions.length) {
      const free = model.conditions.map(() => NaN);
      const samples = await model.drawMany(1n, SAMPLES, free, null);
      addSliders(model.grid, model.conditions, samples.map(({ iv }) => iv), () => drawAgain());
    }
  });
};

/** Create the controls that depend on the model: sliders, conditions, tenors. */
const build = () => {
  const { convention, tenors, nodes } = model.grid;
  at("about").textContent = `version ${model.version}: ${model.latents} latents, ${tenors.length} tenors × ${nodes.length} nodes`;
  at("show-card").hidden = !model.cardName;
  buildLatents(model.latents, (i, value) => {
    stopWalking();
    move((requested ?? shown.z).with(i, value));
  });
  buildConditions(model.conditions, model.markets);
  at("quantity").replaceChildren(...Object.entries({ vol: "vol", variance: "total variance", density: "density" }).map(([value, name]) => new Option(name, value)));
  at("axis").replaceChildren(...Object.entries(AXES).map(([value, { name }]) => new Option(name, value)));
  at("axis").value = convention === "delta" ? "delta" : "k";
  at("tenor").max = tenors.length - 1;
  at("tenor").value = nearest(model.grid, 0.5);
  at("scenarios").hidden = at("memory").hidden = !model.dynamics;
  if (model.dynamics) {
    at("known").textContent = model.dynamics.date;
    at("returned").hidden = !model.dynamics.underlying;
  }
};

/** The surfaces that are drawn behind the shown one. */
const others = () => [
  ...(kept ? [{ name: kept.name, iv: kept.iv, tone: "orange" }] : []),
  ...(before ? [{ name: before.name, iv: before.iv, tone: "green" }] : []),
];

/** Show a surface and where it comes from in the figures, the sliders and the tables. */
const show = (surface, from) => {
  [shown, source] = [surface, from];
  if (from.kind !== "quotes") forgetCompletion();
  showLatents(surface.z);
  redraw();
  showChecks(model.grid, surface.iv);
  forgetScore();
  settle();
};

/** Show no quotes: another surface than theirs is shown. */
const forgetCompletion = () => {
  quotes = before = null;
  warn(null);
  fit("");
  clearQuoteTable();
};

const redraw = () => {
  const chosen = Number(at("tenor").value);
  at("tenor-name").textContent = tenorTitle(model.grid.tenors[chosen]);
  at("tenor").setAttribute("aria-valuetext", at("tenor-name").textContent);
  drawSurface(at("surface"), model.grid, shown, settings(), others(), quotes);
  drawSmiles(at("smiles"), model.grid, shown, settings(), chosen, others(), quotes, pick);
  showMarks(model.grid, shown.iv, others()[0], chosen);
};

const pick = (tenor) => {
  at("tenor").value = tenor;
  redraw();
  settle();
  if (scenarios) showFan();
};

let settling = null;

/** Score the surface and renew the address, once it stays. */
const settle = () => {
  clearTimeout(settling);
  settling = setTimeout(() => attempt(async () => {
    const scored = shown;
    const found = await model.score(scored.iv);
    if (scored === shown) showScore(found);
    const fragment = await written();
    if (fragment && scored === shown) history.replaceState(null, "", fragment);
  }), SETTLED);
};

/** The address of what is shown; null if it cannot hold it. */
const written = async () =>
  source.chained ? null : address.written({ version: model.version, source, kept: kept?.source ?? null, settings: { ...settings(), ...seen() }, tenor: at("tenor").value });

/** Show what an address says. */
const restore = async (fragment) => {
  const asked = await address.read(fragment);
  if (asked.settings.axis in AXES) at("axis").value = asked.settings.axis;
  if (asked.settings.quantity in QUANTITIES) at("quantity").value = asked.settings.quantity;
  if (asked.settings.forward) at("forward").value = at("forward").dataset.last = asked.settings.forward;
  if (asked.kept) {
    await showSource(asked.kept);
    keep();
  }
  if (asked.source) await showSource(asked.source);
  if (asked.tenor >= 0 && asked.tenor < model.grid.tenors.length && shown) pick(Math.floor(asked.tenor));
  if (asked.settings.from && shown) turnTo(at("surface"), asked.settings.from);
  if (asked.settings.fan && model.dynamics) await restoreFan(asked.settings);
  else if (asked.source) forgetScenarios();
  if (asked.source && asked.version && asked.version !== model.version) {
    status(`the address was made with version ${asked.version}; this is version ${model.version}, which may show another surface`, true);
  }
};

const restoreFan = async ({ days, fan }) => {
  at("days").value = days;
  if ([...at("fan-of").options].some(({ value }) => value === fan)) at("fan-of").value = fan;
  await drawScenarios();
};

const showSource = async (from) => {
  if (from.market && !model.markets.includes(from.market)) throw new Error(`the address names the market "${from.market}", which this model does not have`);
  if (from.given?.length && from.given.length !== model.conditions.length) throw new Error(`the address asks for ${from.given.length} conditions, but this model has ${model.conditions.length || "none"}`);
  setGiven(model.conditions, from.given ?? [], from.market);
  if (from.kind === "seed") return draw(from.seed);
  if (from.kind === "latents") {
    if (from.z.length !== model.latents) throw new Error(`the address has ${from.z.length} latents, but the model ${model.latents}`);
    return show(await model.decode(from.z), from);
  }
  at("quotes").value = from.text;
  at("unit").value = from.unit;
  at("previous").checked = Boolean(from.since);
  if (from.since) {
    at("elapsed").value = from.since.elapsed;
    at("return").value = from.since.logReturn ?? 0;
  }
  return complete();
};

let requested = null; // latest latents requested while a decode was running
let moving = Promise.resolve(); // until the latest of them are shown

/** Decode latents and show the surface, at most once per frame of the screen. */
const move = (z) => {
  const busy = requested !== null;
  requested = z;
  if (!busy) moving = follow();
  return moving;
};

const follow = async () => {
  await attempt(async () => {
    for (let next = requested; ; next = requested) {
      show(await model.decode(next), { kind: "latents", z: next });
      await new Promise(requestAnimationFrame);
      if (requested === next) break;
    }
  });
  requested = null;
};

const draw = async (seed) => {
  stopWalking();
  await moving; // or its last surface would take the place of this one
  const asked = { kind: "seed", seed, given: given(model.conditions), market: market() };
  at("seed").value = seed;
  show(await model.draw(seed, asked.given, asked.market), asked);
};

const sampleAgain = () => attempt(() => draw(BigInt(crypto.getRandomValues(new Uint32Array(1))[0])));

const drawSeed = () => attempt(async () => {
  const text = at("seed").value.trim();
  if (!/^\d{1,20}$/.test(text) || BigInt(text) >= 2n ** 64n) throw new Error(`the seed is "${text}"; allowed: whole numbers from 0 to 2^64 - 1`);
  await draw(BigInt(text));
  status("");
});

let drawing = false;

/** Draw the same seed with other conditions, one at a time. */
const drawAgain = async () => {
  if (drawing) return;
  drawing = true;
  await drawSeed();
  drawing = false;
};

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
  for (let then = performance.now(); walking === self; ) {
    await new Promise(requestAnimationFrame);
    const now = performance.now();
    const decay = Math.exp(-Math.min((now - then) / 1000, 0.1) / RELAXATION);
    then = now;
    if (walking === self) await move(shown.z.map((z) => decay * z + Math.sqrt(1 - decay * decay) * normal()));
  }
};

/** A standard normal random number, by the Box-Muller transform. */
const normal = () => Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random());

const number = (id, name) => {
  const value = Number(at(id).value.trim() || NaN);
  if (!Number.isFinite(value)) throw new Error(`${name} is "${at(id).value}", not a number`);
  return value;
};

/** {elapsed, logReturn} since the state that a completion starts from; null where it starts from none. */
const memory = () => {
  if (!at("previous").checked || !model.dynamics) return null;
  return { elapsed: number("elapsed", "days since"), logReturn: model.dynamics.underlying ? number("return", "log return") : null };
};

/** The surface through quotes, in the browser; from an earlier state by the server. */
const completed = (read, since) =>
  since ? model.completeFrom(start, read, market(), since.elapsed, since.logReturn) : model.complete(read, market());

/** Go on from the state that the last completion reached. */
const nextDay = () => {
  start = reached;
  at("known").textContent = start.date;
  at("next").hidden = true;
};

const complete = async () => {
  stopWalking();
  await moving;
  const text = at("quotes").value;
  try {
    const read = quotesText.parse(text, model.noise, at("unit").value, (found) => check(model.limits, found));
    const since = memory();
    const found = await completed(read, since);
    checkSurface(found);
    showCompletion(text, read, found, since);
  } catch (error) {
    fit(error.message, true);
    showWrong(text, error);
  }
};

const checkSurface = (found) => {
  if (!found.used.some(Boolean)) throw new Error("no quote is within reach of the grid");
  if (![...found.iv, ...found.std].every(Number.isFinite)) throw new Error("iv or weight is too large or too small: no finite surface goes with it");
  const [low, high] = model.limits.each_vol;
  if (found.iv.some((vol) => vol < low || vol > high)) throw new Error("the surface through these quotes has vols that cannot be: they are far outside of what the model learned; leave wrong ones out");
};

const showCompletion = (text, read, found, since) => {
  const used = read.iv.map((_, i) => i).filter((i) => found.used[i]);
  quotes = { ...read, used: found.used, wild: found.wild };
  before = found.before ? { name: at("known").textContent, iv: found.before } : null;
  reached = found.state ?? null;
  at("next").hidden = !reached;
  if (read.forward?.every((one) => one === read.forward[0])) at("forward").value = at("forward").dataset.last = read.forward[0];
  const counts = model.grid.tenors.map((_, i) => used.filter((q) => nearest(model.grid, read.tenor[q]) === i).length);
  at("tenor").value = counts.indexOf(Math.max(...counts));
  show(found, { kind: "quotes", text, unit: at("unit").value, market: market(), since, chained: Boolean(since && start) });
  warn([found.warning, read.note].filter(Boolean).join("; "));
  showErrors(text, { ...read, ...found, iv: read.iv });
  const errors = used.map((i) => BASIS_POINTS * Math.abs(found.fitted[i] - read.iv[i]));
  const median = BASIS_POINTS * Array.from(found.std).sort((a, b) => a - b)[found.std.length >> 1];
  const repeated = read.repeated ? ` (${read.repeated} rows repeat one)` : "";
  fit(`${used.length} of ${read.iv.length} quotes used${repeated}${used.length < read.iv.length ? ", the others are out of reach of the grid" : ""}; ` +
    `errors ${mean(errors).toFixed(1)} bp on average, ${Math.max(...errors).toFixed(1)} bp at most; median std of the surface ${median.toFixed(1)} bp`);
};

/** A warning about the quotes above all, as long as the surface is theirs. */
const warn = (text) => {
  at("banner").hidden = !text;
  at("banner").textContent = text ? `Warning: ${text}` : "";
};

const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;

/** Take quotes at random points of the shown surface, and complete them. */
const takeExample = () => {
  const k = logMoneyness(model.grid, shown.iv);
  const { tenors, nodes } = model.grid;
  const points = tenors.flatMap((_, i) => nodes.map((_, j) => ({ i, j, rank: Math.random() })));
  const chosen = points.sort((a, b) => a.rank - b.rank).slice(0, EXAMPLES);
  at("unit").value = "decimal";
  at("quotes").value = quotesText.text({
    tenor: chosen.map(({ i }) => tenors[i]),
    logMoneyness: chosen.map(({ i, j }) => k[i][j]),
    iv: chosen.map(({ i, j }) => shown.iv[i * nodes.length + j]),
  });
  return complete();
};

const clear = () => {
  at("quotes").value = "";
  at("dated").hidden = true;
  forgetCompletion();
  redraw();
};

const nameOf = (from) => ({ seed: () => `seed ${from.seed}`, latents: () => "kept", quotes: () => (quotes?.date ? `quotes of ${quotes.date}` : "kept quotes") })[from.kind]();

const keep = () => {
  kept = { iv: shown.iv, source, name: nameOf(source) };
  at("forget").hidden = false;
  redraw();
  settle();
};

const forget = () => {
  kept = null;
  at("forget").hidden = true;
  redraw();
  settle();
};

const compareWithFile = async (file) => attempt(async () => {
  kept = { iv: readCsv(model.grid, await file.text()), source: null, name: file.name };
  at("forget").hidden = false;
  redraw();
  status(`compared with ${file.name}; an address cannot hold a file`);
});

const share = () => attempt(async () => {
  const fragment = await written();
  if (!fragment) throw new Error(source.chained ? "an address cannot hold the state that this completion starts from" : "these quotes are too many for an address; send the file");
  history.replaceState(null, "", fragment);
  const copied = await (navigator.clipboard?.writeText(location.href) ?? Promise.reject()).then(() => true, () => false);
  status(copied ? "the address is copied; it restores all of this" : "the address of this page restores all of this: copy it from the browser");
});

const download = () => saveAs("surface.csv", new Blob([csv(model.grid, shown)], { type: "text/csv" }));
const image = () => attempt(async () => saveAs("surface.png", await picture(`volvae ${model.version}, ${at("tenor-name").textContent} in front`)));

const showFan = () => drawFan(model.grid, scenarios, at("fan-of").value, model.grid.tenors[Number(at("tenor").value)]);

const drawScenarios = () => attempt(async () => {
  const days = number("days", "the number of working days");
  if (!Number.isInteger(days) || days < 1 || days > 60) throw new Error(`the number of working days is ${days}; allowed: 1 to 60`);
  scenarios = await drawn(model, days, 1, reached ?? start);
  showFan();
  settle();
  const { paths, steps, withArbitrage } = scenarios;
  const lacking = withArbitrage ? `; ${withArbitrage} of ${paths * steps} surfaces have static arbitrage` : "";
  say("fan-text")(`${paths} paths from ${(reached ?? start)?.date ?? model.dynamics.date}${lacking}`);
}, say("fan-text"));

const forgetScenarios = () => {
  scenarios = null;
  clearChart(at("fan"));
  say("fan-text")("");
};

const showCard = () => attempt(async () => {
  at("card-text").replaceChildren(...rendered(await model.card()));
  at("card").showModal();
});

const reset = () => {
  stopWalking();
  return move(Array.from(at("latents").querySelectorAll("input"), () => 0));
};

const buttons = { reset, walk, sample: sampleAgain, complete, example: takeExample, clear, download, image, share, keep, forget, "draw-fan": drawScenarios, next: nextDay, "show-card": showCard };
for (const [id, action] of Object.entries(buttons)) at(id).addEventListener("click", () => action());
at("draw").addEventListener("submit", (event) => {
  event.preventDefault();
  drawSeed();
});
at("tenor").addEventListener("input", () => pick(Number(at("tenor").value)));
at("fan-of").addEventListener("change", () => {
  if (!scenarios) return;
  showFan();
  settle();
});
at("surface").addEventListener("turned", () => settle());
for (const id of ["axis", "quantity"]) at(id).addEventListener("change", () => pick(Number(at("tenor").value)));
at("forward").addEventListener("input", () => {
  const bad = !(Number(at("forward").value) > 0);
  status(bad ? `the forward is "${at("forward").value}"; it must be a positive number` : "", bad);
  if (bad) return forward();
  at("forward").dataset.last = at("forward").value;
  pick(Number(at("tenor").value));
});
const onFile = (id, action) => at(id).addEventListener("change", async ({ target }) => {
  const [file] = target.files;
  target.value = ""; // or a second choice of the same file would be no change
  if (file) await action(file);
});
let opened = ""; // the file of quotes, of which the page takes one date

/** Take the newest date of a file of quotes, or all of a file that names none, and complete it. */
const openQuotes = async (file) => {
  opened = quotesText.textOf(new Uint8Array(await file.arrayBuffer()));
  try {
    const found = quotesText.dates(opened);
    at("date").replaceChildren(...found.map((date) => new Option(date || "no date", date)));
    at("dated").hidden = found.length < 2;
    at("date").value = found.at(-1) ?? "";
    at("quotes").value = found.length > 1 ? quotesText.ofDate(opened, found.at(-1)) : opened;
  } catch {
    at("quotes").value = opened; // `complete` says what is wrong
    at("dated").hidden = true;
  }
  await complete();
};

onFile("file", openQuotes);
at("date").addEventListener("change", () => {
  at("quotes").value = quotesText.ofDate(opened, at("date").value);
  complete();
});
onFile("other", compareWithFile);
at("entry").addEventListener("submit", (event) => {
  event.preventDefault();
  open(at("token").value);
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  if (!shown) return;
  redraw();
  paint(at("fan"));
  paintRelief(at("surface"));
});
window.addEventListener("hashchange", () => model && attempt(() => restore(location.hash)));
const KEYS = { r: reset, w: walk, s: sampleAgain, d: download, p: image, k: keep };
document.addEventListener("keydown", ({ key, ctrlKey, metaKey, altKey, target }) => {
  const typing = target.matches("textarea, select, input:not([type='range'], [type='checkbox'])");
  if (model && !at("card").open && !typing && !ctrlKey && !metaKey && !altKey) KEYS[key.toLowerCase()]?.();
});

await open("");
