// The client in one script for browsers, as bundlers make it: `node bundle.mjs fal-newest` writes it to stdout. It leaves the client in `window.fal`.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

const files = new Map();

function add(file) {
  if (files.has(file)) return;
  const text = readFileSync(file, "utf8");
  const requires = {};
  files.set(file, { text, requires });
  if (file.endsWith(".json")) return;
  const require = createRequire(file);
  for (const [, name] of text.matchAll(/require\("([^"]+)"\)/g)) {
    requires[name] = require.resolve(name);
    add(requires[name]);
  }
}

const entry = createRequire(join(process.env.MODULES, "_")).resolve(process.argv[2]);
add(entry);
const modules = [...files].map(([file, { text, requires }]) => {
  const body = file.endsWith(".json") ? `module.exports = ${text}` : text;
  return `${JSON.stringify(file)}: [${JSON.stringify(requires)}, function (exports, require, module) {${body}\n}]`;
});
console.log(`(() => {
  const modules = {${modules.join(",\n")}};
  const loaded = {};
  function load(file) {
    if (!loaded[file]) {
      const [requires, run] = modules[file];
      loaded[file] = { exports: {} };
      run(loaded[file].exports, (name) => load(requires[name]), loaded[file]);
    }
    return loaded[file].exports;
  }
  window.fal = load(${JSON.stringify(entry)});
})();`);
