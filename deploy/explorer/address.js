// The address of the page: what is shown, so that a copy of it restores everything.
// Sources of a surface are {kind: "seed", seed, given, market}, {kind: "latents", z} and {kind: "quotes", text, unit, market, since};
// `since` is {elapsed, logReturn} of a completion from the newest state of the model.

const LONGEST = 30_000; // letters that browsers and mail programs keep

/** The fragment of an address for what is shown; null if it would be too long. */
export const written = async ({ version, source, kept, settings, tenor }) => {
  const fields = new URLSearchParams({ model: version, ...(await fieldsOf(source, "")), ...(kept && (await fieldsOf(kept, "kept."))) });
  for (const [name, value] of Object.entries({ ...settings, tenor })) fields.set(name, value);
  const text = `#${fields}`;
  return text.length > LONGEST ? null : text;
};

/** What an address says: {version, source, kept, settings, tenor}, each undefined or null where it says nothing that can be. */
export const read = async (fragment) => {
  const fields = new URLSearchParams(fragment.replace(/^#/, ""));
  const settings = {};
  for (const name of ["axis", "quantity"]) if (fields.has(name)) settings[name] = fields.get(name);
  const forward = Number(fields.get("forward"));
  if (forward > 0 && Number.isFinite(forward)) settings.forward = forward;
  const from = fields.get("from")?.split(",").map(Number) ?? [];
  if (from.length === 2 && from.every(Number.isFinite)) settings.from = from;
  for (const name of ["days", "fan"]) if (fields.has(name)) settings[name] = fields.get(name);
  const tenor = fields.has("tenor") ? Number(fields.get("tenor")) : undefined;
  return { version: fields.get("model"), source: await sourceOf(fields, ""), kept: await sourceOf(fields, "kept."), settings, tenor };
};

const fieldsOf = async (source, prefix) => {
  const own = {
    seed: () => ({ seed: source.seed, ...(source.given?.some(Number.isFinite) && { given: source.given.join(",") }) }),
    latents: () => ({ z: source.z.map((one) => +one.toPrecision(9)).join(",") }),
    quotes: async () => ({ quotes: await packed(source.text), ...(source.unit !== "decimal" && { unit: source.unit }), ...(source.since && { since: `${source.since.elapsed},${source.since.logReturn ?? ""}` }) }),
  };
  const fields = { ...(await own[source.kind]()), ...(source.market && { market: source.market }) };
  return Object.fromEntries(Object.entries(fields).map(([name, value]) => [prefix + name, String(value)]));
};

const sourceOf = async (fields, prefix) => {
  const get = (name) => fields.get(prefix + name);
  const market = get("market");
  if (get("quotes")) {
    try {
      return { kind: "quotes", text: await unpacked(get("quotes")), unit: get("unit") === "percent" ? "percent" : "decimal", market, since: sinceOf(get("since")) };
    } catch {
      throw new Error("the quotes in this address were cut short: copy the whole of it");
    }
  }
  if (get("z")) {
    const z = get("z").split(",").map(Number);
    if (!z.every(Number.isFinite)) throw new Error(`the latents in this address are "${get("z").slice(0, 60)}", not numbers`);
    return { kind: "latents", z };
  }
  if (!get("seed")) return null;
  if (!/^\d{1,20}$/.test(get("seed")) || BigInt(get("seed")) >= 2n ** 64n) throw new Error(`the seed in this address is "${get("seed").slice(0, 60)}", not a whole number below 2^64`);
  return { kind: "seed", seed: BigInt(get("seed")), given: get("given")?.split(",").map(Number) ?? [], market };
};

const sinceOf = (text) => {
  if (!text) return null;
  const [elapsed, logReturn] = text.split(",");
  return { elapsed: Number(elapsed), logReturn: logReturn ? Number(logReturn) : null };
};

/** Text by deflate, in the letters that an address may have. */
const packed = async (text) => {
  const bytes = new Uint8Array(await new Response(new Blob([text]).stream().pipeThrough(new CompressionStream("deflate-raw"))).arrayBuffer());
  return btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join("")).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
};

const unpacked = async (letters) => {
  const bytes = Uint8Array.from(atob(letters.replaceAll("-", "+").replaceAll("_", "/")), (letter) => letter.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate-raw"))).text();
};
