// Compiles every schema of a folder with Ajv, strict and with formats; prints their names.
import fs from "node:fs";
import path from "node:path";
import Ajv from "ajv/dist/2020.js";
import addFormats from "ajv-formats";

const [folder] = process.argv.slice(2);
for (const name of fs.readdirSync(folder)) {
  const ajv = addFormats(new Ajv({ strict: true }));
  ajv.compile(JSON.parse(fs.readFileSync(path.join(folder, name), "utf-8")));
  console.log(name);
}
