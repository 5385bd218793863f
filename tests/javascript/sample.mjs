// Samples with sampler.onnx and decodes with decoder.onnx in WebAssembly, as a page in a browser does.
// Usage: node sample.mjs BUNDLE REQUEST.json > ANSWER.json
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import * as ort from "onnxruntime-web";

const [bundle, request] = process.argv.slice(2);
const { key, offset, count, temperature, standardNormal, conditions, z, latents } = JSON.parse(await readFile(request, "utf8"));
ort.env.wasm.numThreads = 1;

const load = async (name) => ort.InferenceSession.create(await readFile(join(bundle, name)), { executionProviders: ["wasm"] });
const sampler = await load("sampler.onnx");
const decoder = await load("decoder.onnx");

const feeds = {
  key: new ort.Tensor("uint64", BigUint64Array.of(BigInt(key)), [1]),
  offset: new ort.Tensor("int64", BigInt64Array.of(BigInt(offset)), [1]),
  count: new ort.Tensor("int64", BigInt64Array.of(BigInt(count)), [1]),
  temperature: new ort.Tensor("float32", Float32Array.of(temperature), [1]),
  standard_normal: new ort.Tensor("bool", [standardNormal], [1]),
};
if (conditions) feeds.conditions = new ort.Tensor("float32", Float32Array.from(conditions, (x) => x ?? NaN), [conditions.length]);
const drawn = await sampler.run(feeds);
const decoded = await decoder.run({ z: new ort.Tensor("float32", Float32Array.from(z), [z.length / latents, latents]) });

console.log(JSON.stringify({
  iv: Array.from(drawn.iv.data),
  shape: drawn.iv.dims,
  z: Array.from(drawn.z.data),
  decoded: Array.from(decoded.iv.data),
}));
