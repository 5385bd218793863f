// Runs the graphs of a bundle in the browser; once they are loaded, no server is needed.
import { LEAST_P, MISFIT_OF_WEIGHTS, estimate, warning } from "./noise.js";
import * as ort from "./onnxruntime-web/ort.wasm.bundle.min.mjs";

const GRAPHS = ["decoder", "sampler", "completer"];
const VERSION = "volvae-model-version";
const TRIES = 3; // the server may replace the model between two files

/** The token is missing or wrong. */
export class TokenError extends Error {}

export class Model {
  /** The model that the server serves now; `report` is called with a message for each step. */
  static async load(token, report) {
    await startRuntime(report);
    for (let attempt = 1; ; attempt++) {
      report("loading the model");
      const names = ["manifest.json", ...GRAPHS.map((name) => `${name}.onnx`)];
      const files = await Promise.all(names.map((name) => fetched(`bundle/${name}`, token)));
      const versions = files.map((file) => file.headers.get(VERSION));
      if (versions.every((version) => version === versions[0])) {
        const [manifest, ...graphs] = await Promise.all(files.map((file, i) => (i ? file.arrayBuffer() : file.json())));
        if (manifest.kind === "vectors") throw new Error(`the model is of vectors of ${manifest.dimension} points: there is no surface to show`);
        const limits = await (await fetched("explorer/plausible.json")).json();
        const sessions = await Promise.all(graphs.map((graph) => ort.InferenceSession.create(graph, { executionProviders: ["wasm"] })));
        return new Model(versions[0], manifest, limits, Object.fromEntries(GRAPHS.map((name, i) => [name, sessions[i]])));
      }
      if (attempt === TRIES) throw new Error("the server keeps exchanging its model");
    }
  }

  constructor(version, manifest, limits, sessions) {
    this.version = version;
    this.limits = limits; // of what quotes may be
    this.noise = Number(manifest.observation_scale_vol); // of a quote of weight 1
    this.grid = manifest.grid;
    this.latents = manifest.latents;
    this.conditions = manifest.conditions;
    this.markets = manifest.market_is_condition ? manifest.markets : [];
    this.sessions = sessions;
  }

  /** The surface of latents: {iv, z}. */
  async decode(z) {
    const { iv } = await this.sessions.decoder.run({ z: floats(z, [1, z.length]) });
    return { iv: iv.data, z };
  }

  /**
   * The first surface that `volvae sample` draws with this seed: {iv, z}. A condition of NaN leaves that variable free,
   * and no market all of them.
   */
  async draw(seed, conditions, market) {
    const feeds = {
      key: new ort.Tensor("uint64", BigUint64Array.of(seed), [1]),
      offset: new ort.Tensor("int64", BigInt64Array.of(0n), [1]),
      count: new ort.Tensor("int64", BigInt64Array.of(1n), [1]),
      temperature: floats([1], [1]),
      standard_normal: new ort.Tensor("bool", [false], [1]),
      ...(conditions.length && { conditions: floats(conditions, [conditions.length]) }),
      ...this.#place(market),
    };
    const { iv, z } = await this.sessions.sampler.run(feeds);
    return { iv: iv.data, z: Array.from(z.data) };
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
    return { ...found, std: found.std.map((one) => Math.hypot(one, unknown)), warning: warning(noise, quotes, this.noise) };
  }

  async #completed({ tenor, logMoneyness, iv, weight }, market) {
    const columns = { tenor, log_moneyness: logMoneyness, iv, weight };
    const feeds = Object.fromEntries(Object.entries(columns).map(([name, values]) => [name, floats(values, [values.length])]));
    Object.assign(feeds, this.#place(market));
    const { surface, std, z, fitted, fitted_std, p_value, used } = await this.sessions.completer.run(feeds);
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

let runtime = null;

const startRuntime = (report) => {
  runtime ??= (async () => {
    report("loading onnxruntime");
    const packed = await fetched("explorer/onnxruntime-web/ort-wasm-simd-threaded.wasm.gz");
    const unpacked = packed.body.pipeThrough(new DecompressionStream("gzip"));
    ort.env.wasm.wasmBinary = await new Response(unpacked).arrayBuffer();
    ort.env.wasm.numThreads = 1;
  })();
  return runtime;
};

const fetched = async (path, token = "") => {
  const response = await fetch(path, { headers: token ? { authorization: `Bearer ${token}` } : {} });
  if (response.status === 401) throw new TokenError(token ? "this token is not the server's" : "the server asks for a token");
  if (!response.ok) throw new Error(`${path}: the server answers ${response.status}`);
  return response;
};
