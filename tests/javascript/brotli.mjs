// Packs a file by brotli, as small as it gets: node brotli.mjs FROM TO. Browsers take brotli by https and from this machine.
import { readFileSync, writeFileSync } from "node:fs";
import { brotliCompressSync, constants } from "node:zlib";

const [from, to] = process.argv.slice(2);
const content = readFileSync(from);
writeFileSync(to, brotliCompressSync(content, { params: { [constants.BROTLI_PARAM_LGWIN]: 24, [constants.BROTLI_PARAM_SIZE_HINT]: content.length } }));
