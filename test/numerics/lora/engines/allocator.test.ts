import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';
import { GRAPH_PROCESS_ENVIRONMENT, TRAINER_FLAGS } from '../../../../lora/engines/allocator.ts';

const MEBIBYTES = 64;

/** Returns the heap size in MiB of a process that holds two arrays of MEBIBYTES. */
async function heapSize(environment: Readonly<Record<string, string>>): Promise<number> {
  const script = `
    const { readFileSync } = require('node:fs');
    const held = Array.from({ length: 2 }, () => Buffer.allocUnsafeSlow(${MEBIBYTES} * 2 ** 20));
    const [, from, to] = /^(\\w+)-(\\w+).*\\[heap\\]$/m.exec(readFileSync('/proc/self/maps', 'latin1'));
    console.log((parseInt(to, 16) - parseInt(from, 16)) / 2 ** 20, held.length);`;
  const { stdout } = await promisify(execFile)(process.execPath, ['-e', script], { env: environment });
  return Number.parseFloat(stdout);
}

const { header } = process.report.getReport() as { header: { glibcVersionRuntime?: string } };

test.skipIf(header.glibcVersionRuntime === undefined)(
  'large arrays come from the heap, not from separate mappings',
  async () => {
    expect(await heapSize({})).toBeLessThan(MEBIBYTES);
    expect(await heapSize(GRAPH_PROCESS_ENVIRONMENT)).toBeGreaterThan(2 * MEBIBYTES);
  },
);

/** Returns the size in MiB of V8's young generation in a process that has made much garbage. */
async function youngGenerationSize(flags: readonly string[]): Promise<number> {
  const script = `
    let held = [];
    for (let i = 0; i < 1e6; i++) {
      held.push({ i });
      if (held.length > 2e5) held = [];
    }
    const spaces = require('node:v8').getHeapSpaceStatistics();
    console.log(spaces.find(({ space_name }) => space_name === 'new_space').space_size / 2 ** 20);`;
  const { stdout } = await promisify(execFile)(process.execPath, [...flags, '-e', script]);
  return Number.parseFloat(stdout);
}

test('the young generation of a trainer process stays small', async () => {
  expect(await youngGenerationSize([])).toBeGreaterThan(16);
  expect(await youngGenerationSize(TRAINER_FLAGS)).toBeLessThanOrEqual(16);
});
