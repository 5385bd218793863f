// Surfaces over HTTP, in a browser or in node 18 and newer: node client.mjs ADDRESS FILE.
// A browser may ask the server that its page came from; others need a proxy that makes them one origin.

/** Shape [count, tenor, node] of sampled surfaces, and their vols as a Float32Array. */
export async function sample(address, count, seed) {
  const answer = await fetch(`${address}/sample`, {
    method: "POST",
    headers: { "Content-Type": "application/json", Accept: "application/octet-stream" },
    body: JSON.stringify({ count, seed }),
  });
  if (!answer.ok) throw new Error((await answer.json()).error);
  const shape = answer.headers.get("volvae-shape").split(",").map(Number);
  return { shape, vols: new Float32Array(await answer.arrayBuffer()) };
}

if (typeof process !== "undefined" && import.meta.url === `file://${process.argv[1]}`) {
  const { writeFileSync } = await import("node:fs");
  const [address, file] = process.argv.slice(2);
  const { shape, vols } = await sample(address, 3, 7);
  writeFileSync(file, new Uint8Array(vols.buffer));
  console.log(shape.join(" "));
}
