#!/usr/bin/env node
// Runs as the package's preinstall step, before the install steps of its dependencies.
//
// On Linux x64 the install step of onnxruntime-node downloads CUDA libraries (some hundred MB) from outside the npm
// registry, and the whole installation fails where that host is not reachable. Everything for the CPU and for WebGPU is in
// the npm package. So the step gets "skip" as its default; ONNXRUNTIME_NODE_INSTALL=cuda12 still asks for the libraries.
// A checkout does the same with "allowScripts" in package.json, which npm reads for the root project only.
import { readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';

const DEFAULT = "process.env.ONNXRUNTIME_NODE_INSTALL ||= 'skip';\n";

try {
  // Its package.json is not exported: found by the path of its main file.
  const main = createRequire(import.meta.url).resolve('onnxruntime-node');
  const script = join(dirname(main), '..', 'script', 'install.js');
  const text = readFileSync(script, 'utf8');
  if (!text.startsWith(DEFAULT)) writeFileSync(script, DEFAULT + text);
} catch {
  // In a checkout nothing is installed yet; elsewhere the step runs as it is.
}
