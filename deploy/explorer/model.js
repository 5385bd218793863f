// Runs the graphs of a bundle in the browser; once they are loaded, no server is needed.
import { LEAST_P, MISFIT_OF_WEIGHTS, estimate, warning } from "./noise.js";
import { ranks } from "./score.js";
import * as ort from "./onnxruntime-web/ort.wasm.bundle.min.mjs";

const GRAPHS = ["decoder", "sampler", "completer", "scorer"];
const VERSION = "volvae-model-version";
const CARD = "volvae-model-card";
const EXCHANGED = "the server has another version of the model now; load the page again";
const TRIES = 3; // the server may replace the model between two files

/** The token is missing or wrong. */
export class TokenError extends Error {}

export class Model {
  /** The model that the server serves now; `report` is called with a message for each step. */
  static async load(token, report) {
    report("loading the model");
    for (let attempt = 1; ; attempt++) {
      const names = ["manifest.json", ...GRAPHS.map((name) => `${name}.onnx`)];
      const files = await Promise.all(names.map((name) => fetched(`bundle/${name}`, token)));
      const versions = files.map((file) => file.headers.get(VERSION));
      if (versions.every((version) => version === versions[0])) {
        const [manifest, ...graphs] = await Promise.all(files.map((file, i) => (i ? file.arrayBuffer() : file.json())));
        if (manifest.kind === "vectors") throw new Error(`the model is of vectors of ${manifest.dimension} points: there is no surface to show`);
        const limits = await (await fetched("explorer/plausible.json")).json();
        const named = Object.fromEntries(GRAPHS.map((name, i) => [name, graphs[i]]));
        return new Model(versions[0], manifest, files[0].headers.get(CARD), limits, named, token);
      }
      if (attempt === TRIES) throw new Error("the server keeps exchanging its model");
    }
  }

  #graphs;
  #sessions = {}; // by name, each made when it is first run
  #token;

  constructor(version, manifest, card, limits, graphs, token) {
    this.version = version;
    this.cardName = card; // null where there is no model card
    this.scores = manifest.scores;
    this.dynamics = manifest.dynamics ?? null; // the law of motion and its last state
    this.masked = manifest.reads_missing;
    this.limits = limits; // of what quotes may be
    this.noise = Number(manifest.observation_scale_vol); // of a quote of weight 1
    this.grid = manifest.grid;
    this.latents = manifest.latents;
    this.conditions = manifest.conditions;
    this.markets = manifest.market_is_condition ? manifest.markets : [];
    this.#graphs = graphs;
    this.#token = token;
  }

  async #run(name, feeds) {
    this.#sessions[name] ??= ort.InferenceSession.create(this.#graphs[name], { executionProviders: ["wasm"] });
    return (await this.#sessions[name]).run(feeds);
  }

  /** The model card as Markdown. */
  async card() {
    const answer = await fetched(`bundle/${this.cardName}`, this.#token);
    if (answer.headers.get(VERSION) !== this.version) throw new Error(EXCHANGED);
    return answer.text();
  }

  /** What the server answers to a request; an Error has its reason. */
  async post(path, body, accept = "application/json") {
    const headers = { "content-type": "application/json", accept, ...(this.#token && { authorization: `Bearer ${this.#token}` }) };
    const answer = await fetch(path, { method: "POST", headers, body }).catch(() => null);
    if (!answer) throw new Error("the server does not answer; this needs it");
    if (!answer.ok) throw new Error((await answer.json()).error);
    if (answer.headers.get(VERSION) !== this.version) throw new Error(EXCHANGED);
    return answer;
  }

  /** The surface of latents: {iv, z}. */
  async decode(z) {
    const { iv } = await this.#run("decoder", { z: floats(z, [1, z.length]) });
    return { iv: iv.data, z };
  }

  /**
   * The first surface that `volvae sample` draws with this seed: {iv, z}. A condition of NaN leaves that variable free,
   * and no market all of them.
   */
  async draw(seed, conditions, market) {
    return (await this.drawMany(seed, 1, conditions, market))[0];
  }

  /** The first surfaces of a seed. */
  async drawMany(seed, count, conditions, market) {
    const feeds = {
      key: new ort.Tensor("uint64", BigUint64Array.of(seed), [1]),
      offset: new ort.Tensor("int64", BigInt64Array.of(0n), [1]),
      count: new ort.Tensor("int64", BigInt64Array.of(BigInt(count)), [1]),
      temperature: floats([1], [1]),
      standard_normal: new ort.Tensor("bool", [false], [1]),
      ...(conditions.length && { conditions: floats(conditions, [conditions.length]) }),
      ...this.#place(market),
    };
    const { iv, z } = await this.#run("sampler", feeds);
    const points = iv.data.length / count;
    return Array.from({ length: count }, (_, i) => ({
      iv: iv.data.slice(i * points, (i + 1) * points),
      z: Array.from(z.data.slice(i * this.latents, (i + 1) * this.latents)),
    }));
  }

  /** Percentiles of a surface among held-out surfaces, as score.js has them. */
  async score(iv) {
    const shape = [1, this.grid.tenors.length, this.grid.nodes.length];
    const feeds = { iv: floats(iv, shape), ...(this.masked && { mask: floats(iv.map(() => 1), shape) }) };
    const { misfit, distance, error } = await this.#run("scorer", feeds);
    return ranks(this.scores, { misfit: misfit.data[0], distance: distance.data[0], error: error.data });
  }

  /**
   * The surface of quotes beside what an earlier state implied for them, as the server completes it: as `complete`, with
   * `state` after the quotes and `before`, the vols of the earlier one.
   */
  async completeFrom(previous, { tenor, logMoneyness, iv, weight }, market, elapsed, logReturn) {
    const body = {
      iv, tenor, log_moneyness: logMoneyness, previous: previous ?? "newest", elapsed,
      ...(weight && { weight }), ...(market && { market }), ...(logReturn !== null && { log_return: logReturn }),
    };
    const found = await (await this.post("complete", JSON.stringify(body))).json();
    return {
      iv: Float32Array.from(found.iv.flat()), std: Float32Array.from(found.std.flat()), z: found.latents, fitted: found.fitted,
      used: found.used, wild: found.wild, warning: found.warning, state: found.state, before: (previous ?? this.dynamics).iv.flat(),
    };
  }

  /**
   * The complete surface from quotes, of a market or of any: {iv, std, z, fitted, used, warning}. Without weights, the
   * noise of quotes that do not fit the model is estimated from them.
   */
  async complete(quotes, market) {
    const complete = (weight) => this.#completed({ ...quotes, weight }, market);
    const first = await complete(quotes.weight ?? quotes.iv.map(() => 1));
    if (!(first.pValue < LEAST_P)) return { ...first, warning: null };
    if (quotes.weight) return { ...first, warning: MISFIT_OF_WEIGHTS };
    const noise = await estimate(complete, quotes, this.noise);
    const found = await complete(noise.weight);
    const unknown = ["shape", "unknown"].includes(noise.cause) ? noise.noise : 0;
    return { ...found, std: found.std.map((one) => Math.hypot(one, unknown)), warning: warning(noise, quotes, this.noise), wild: noise.wild };
  }

  async #completed({ tenor, logMoneyness, iv, weight }, market) {
    const columns = { tenor, log_moneyness: logMoneyness, iv, weight };
    const feeds = Object.fromEntries(Object.entries(columns).map(([name, values]) => [name, floats(values, [values.length])]));
    Object.assign(feeds, this.#place(market));
    const { surface, std, z, fitted, fitted_std, p_value, used } = await this.#run("completer", feeds);
    return {
      iv: surface.data,
      std: std.data,
      z: Array.from(z.data),
      fitted: Array.from(fitted.data),
      fittedStd: Array.from(fitted_std.data),
      pValue: p_value.data[0],
      used: Array.from(used.data, Boolean),
    };
  }

  /** The input `market` of sampler and completer where they have one: -1 for none. */
  #place(market) {
    const place = BigInt(this.markets.indexOf(market));
    return this.markets.length ? { market: new ort.Tensor("int64", BigInt64Array.of(place), [1]) } : {};
  }
}

const floats = (values, shape) => new ort.Tensor("float32", Float32Array.from(values), shape);

ort.env.wasm.wasmPaths = { wasm: new URL("onnxruntime-web/ort-wasm-simd-threaded.wasm", import.meta.url).href };
ort.env.wasm.numThreads = 1;

const fetched = async (path, token = "") => {
  const response = await fetch(path, { headers: token ? { authorization: `Bearer ${token}` } : {} }).catch(() => null);
  if (!response) throw new Error("the server does not answer; this needs it");
  if (response.status === 401) throw new TokenError(token ? "this token is not the server's" : "the server asks for a token");
  if (!response.ok) throw new Error(`${path}: the server answers ${response.status}`);
  return response;
};
