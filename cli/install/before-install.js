#!/usr/bin/env node
// The preinstall step of the package. npm runs it before the install steps of the dependencies.
//
// On Linux x64 the install step of onnxruntime-node downloads CUDA libraries (several hundred MB) from a host that is
// not the npm registry. If that host is not reachable, the whole installation fails. The libraries are not needed for
// the CPU and WebGPU, so this file changes the default of the install step to "skip".
// ONNXRUNTIME_NODE_INSTALL=cuda12 still installs the libraries, and so does the script with its own option. npm passes
// no option to the script.
// A checkout skips the step with "allowScripts" in package.json, which npm reads for the root project only.
import { readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';

// The script reads the variable before its options, so the variable must stay unset if there is an option.
const DEFAULT = "if (!process.argv[2]) process.env.ONNXRUNTIME_NODE_INSTALL ||= 'skip';\n";
/** The line that earlier versions wrote. With it, the script ignores its options. */
const EARLIER = "process.env.ONNXRUNTIME_NODE_INSTALL ||= 'skip';\n";

try {
  // onnxruntime-node does not export its package.json, so its folder is found through its main file.
  const main = createRequire(import.meta.url).resolve('onnxruntime-node');
  const script = join(dirname(main), '..', 'script', 'install.js');
  const text = readFileSync(script, 'utf8');
  const original = text.startsWith(EARLIER) ? text.slice(EARLIER.length) : text;
  if (!text.startsWith(DEFAULT)) writeFileSync(script, DEFAULT + original);
} catch {
  // In a checkout, onnxruntime-node is not installed yet, so there is nothing to change. If the file cannot be changed for
  // another reason, the install step of onnxruntime-node runs unchanged.
}
