// Calls functions of the explorer's modules: reads {module: file, program: text of a function of (m, value), value} as JSON.
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const { module, program, value } = JSON.parse(readFileSync(0, "utf8"));
const found = await import(pathToFileURL(module).href);
const plain = (_, one) => (typeof one === "number" && !Number.isFinite(one) ? String(one) : one);
console.log(JSON.stringify(await new Function("m", "value", `return ${program}`)(found, value), plain));
