import { join } from 'node:path';
import { expect, test } from 'vitest';
import { createProgram } from '../../../cli/program.ts';
import { doctorLines } from '../../../cli/views/doctor.ts';
import { fakeContext } from '../../utils/cli-context.ts';
import { temporaryFolder } from '../../utils/folder.ts';
import { type Change, fakeDiagnosis } from '../../utils/swarm/diagnosis.ts';

const textOf = async (withModel: boolean, change?: Change): Promise<string> =>
  doctorLines(await fakeDiagnosis(withModel, change)).join('\n');

test('the text has every engine with its speed, or what it needs', async () => {
  const diagnosis = await fakeDiagnosis(false);
  const text = doctorLines(diagnosis).join('\n');
  expect(text).toMatch(/onnx-cpu +200 GFLOP\/s +50 GB\/s +2\.0 µs/);
  expect(text).toMatch(/onnx-webgpu +9,000 GFLOP\/s, 20,000 in float16 /);
  expect(text, 'no figures').toMatch(/^onnx-cuda +[^\d\n]+$/m);
  const { reason, needs } = diagnosis.engines[1]!;
  expect(text).toContain(`onnx-cuda: ${reason}\n  ${needs}`);
  expect(text).not.toContain('tokens/s');
  expect(text.split('\n').at(-1)).toMatch(/\bcan train\b.*\bonnx-cpu\b.*\bonnx-webgpu$/);
});

test('the text says that the machine can train only if it can', async () => {
  const broken: Change['probe'] = async ({ engine }) => ({
    ...{ engine, software: false, needs: null },
    ...{ speed: null, reason: 'no library' },
  });
  const text = await textOf(false, { probe: broken });
  expect(text).toMatch(/^problem /m);
  expect(text).not.toMatch(/\bcan train\b/);
  expect((await textOf(true)).split('\n').at(-1)).toMatch(/\bcan train\b.*\bbase\b.*\bonnx-cpu\b/);
});

test('with a base the text has the predicted speeds and the chosen engine', async () => {
  const text = await textOf(true);
  expect(text).toMatch(/^onnx-webgpu .*\b[\d,]+ tokens\/s\b.*\b[\d,]+ .*--precision float16\b/m);
  expect(text).toMatch(/^auto .*\bonnx-webgpu\b.*\b[\d,]+ tokens\/s\b.*\bonnx-cpu [\d,]+/m);
});

test('with fewer base bits the text has their speed, and says which engines were skipped', async () => {
  const text = await textOf(true, { baseBits: 8 });
  expect(text).toMatch(/^onnx-cpu .*\b[\d,]+ tokens\/s +200 GFLOP\/s.*\b400\b.*\b8 bits +50 GB\/s +2\.0 µs/m);
  expect(text).toMatch(/tfjs +skipped/);
  expect(text).toMatch(/tfjs: .*8-bit/);
  expect(text).toMatch(/^auto .*\b[\d,]+ tokens\/s\b.*\b8-bit\b/m);
  expect(text).toMatch(/next: npx lora-swarm train --model \S+ --base-bits 8 --data/);
  expect(await textOf(true, { baseBits: 4 })).toMatch(/^base .*gradient checkpointing\b.*\b4-bit\b/m);
});

test('the command measures this machine, and prints text or JSON', async () => {
  const folder = await temporaryFolder();
  const run = async (...args: string[]) => {
    const { context, out } = fakeContext({
      cwd: folder,
      environment: { SWARM_CACHE: join(folder, 'cache') },
    });
    await createProgram(context).parseAsync(['node', 'lora-swarm', 'doctor', '--threads', '1', ...args]);
    return out();
  };
  const nano = join(import.meta.dirname, '../../../models/nano');
  const found = JSON.parse(await run('--json', '--model', nano, '--base-bits', '4'));
  expect(found).toMatchObject({
    schemaVersion: 1,
    threads: 1,
    baseBits: 4,
    precision: 'float32',
    problems: [],
    base: {
      checkpointing: true,
      chosen: { reason: expect.stringContaining('4-bit') },
    },
  });
  expect(found.engines[0]).toMatchObject({ engine: 'onnx-cpu', reason: null });
  expect(found.engines[0].speed.baseFlops).toBeGreaterThan(1e6);
  expect(found.engines[0].tokensPerSecond).toBeGreaterThan(0);
  const text = await run();
  expect(text).toMatch(/onnx-cpu +[\d,]+ GFLOP\/s/);
  expect(text, 'no figures').toMatch(/^tfjs +[^\d\n]+$/m);
  expect(text).toContain('npm install');
});
