// node validate.mjs FILE: what the AsyncAPI specification has against a document, as a JSON list on stdout.
import { readFileSync } from "node:fs";
import { Parser } from "@asyncapi/parser";

const SEVERITIES = ["error", "warning", "information", "hint"];

const { document, diagnostics } = await new Parser().parse(readFileSync(process.argv[2], "utf8"));
const found = diagnostics.map(({ code, severity, message, path }) => ({
  severity: SEVERITIES[severity],
  code,
  message,
  at: path.join("."),
}));
console.log(JSON.stringify({ parsed: document !== undefined, version: document?.version(), found }));
