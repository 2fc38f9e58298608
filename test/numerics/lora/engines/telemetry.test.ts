import { execFile } from 'node:child_process';
import { mkdir, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';
import { temporaryFolder } from '../../../utils/folder.ts';

const ROOT = join(import.meta.dirname, '../../../..');
const RUN = `
import { createEngine } from ${JSON.stringify(join(ROOT, 'lora/engines/engine.ts'))};
import { Graph } from ${JSON.stringify(join(ROOT, 'lora/graph/graph.ts'))};
import { add } from ${JSON.stringify(join(ROOT, 'lora/graph/ops.ts'))};
const graph = new Graph();
const x = graph.input('x', [1]);
graph.output('y', add(x, x));
const executable = await (await createEngine('onnx-cpu', { threads: 1 })).compile(graph, null);
await executable.run({ x: Float32Array.of(1) });
await executable.dispose();
`;

test('a process that runs graphs writes no files', async () => {
  const folder = await temporaryFolder();
  const [home, temporary] = [join(folder, 'home'), join(folder, 'tmp')];
  await mkdir(home);
  await mkdir(temporary);
  // Leave out all other variables. If CI were set, onnxruntime would never write telemetry, and the test would show nothing.
  await promisify(execFile)(process.execPath, ['--input-type=module', '--eval', RUN], {
    env: { PATH: process.env.PATH, HOME: home, TMPDIR: temporary },
  });
  expect(await readdir(home, { recursive: true })).toEqual([]);
  expect(await readdir(temporary, { recursive: true })).toEqual([]);
});
