import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test, vi } from 'vitest';
import { diagnose } from '../../../cli/doctor/diagnose.ts';
import { describeMachine } from '../../../cli/doctor/machine.ts';
import { createProgram } from '../../../cli/program.ts';
import { doctorLines } from '../../../cli/views/doctor.ts';
import type { Precision } from '../../../lora/engines/precision.ts';
import type { BaseBits } from '../../../lora/models/base-bits.ts';
import { availableMemory } from '../../../lora/train/available-memory.ts';
import { parseCompute } from '../../../lora/train/compute.ts';
import type { EngineProbe, ProbeRequest } from '../../../lora/train/probe.ts';
import { fakeContext } from '../../utils/cli-context.ts';
import { temporaryFolder } from '../../utils/folder.ts';
import { makeTinyModel } from '../../utils/tiny-model.ts';

vi.mock(import('../../../lora/train/available-memory.ts'), async (original) => {
  const { availableMemory } = await original();
  return { availableMemory: vi.fn(availableMemory) };
});

const { signal } = new AbortController();

/** A machine with a GPU, a broken CUDA, and TensorFlow not installed. */
const probe = async ({ engine, baseBits = 32 }: ProbeRequest): Promise<EngineProbe> => {
  const base = { engine, software: false, reason: null, needs: null };
  const speed = {
    flops: 2e11,
    bytes: 5e10,
    secondsPerOperation: 2e-6,
    ...(baseBits !== 32 && { baseFlops: 4e11 }),
  };
  if (engine === 'onnx-cpu') return { ...base, speed };
  if (engine === 'onnx-webgpu') {
    return { ...base, speed: { ...speed, flops: 9e12, float16Flops: 2e13, bytes: 5e11 } };
  }
  return { ...base, speed: null, reason: `${engine} has no library`, needs: `install ${engine}` };
};

async function diagnosis(withModel: boolean, { probed = probe, ...change }: Change = {}) {
  const folder = await temporaryFolder();
  const modelDir = withModel ? await makeTinyModel(join(folder, 'model')) : null;
  const recordDir = join(folder, 'records');
  const compute = parseCompute({ threads: 2, ...change });
  return diagnose({ modelDir, compute, recordDir, now: 0, signal }, { probe: probed });
}

interface Change {
  probed?: typeof probe;
  baseBits?: BaseBits;
  precision?: Precision;
}

describe('a diagnosis', () => {
  test('lists every engine with its speed, or what it needs', async () => {
    const found = await diagnosis(false);
    expect(found.problems).toEqual([]);
    expect(found.engines.map(({ engine }) => engine)).toEqual([
      'onnx-cpu',
      'onnx-cuda',
      'onnx-webgpu',
      'tfjs',
    ]);
    const text = doctorLines(found).join('\n');
    expect(text).toMatch(/onnx-cpu +200 GFLOP\/s +50 GB\/s +2\.0 µs/);
    expect(text).toMatch(/onnx-webgpu +9,000 GFLOP\/s, 20,000 in float16 /);
    expect(text).toMatch(/onnx-cuda +does not run here/);
    expect(text).toContain('onnx-cuda: onnx-cuda has no library\n  install onnx-cuda');
    expect(text).not.toContain('tokens/s');
  });

  test('with a base predicts speed and memory, and names the chosen engine', async () => {
    const found = await diagnosis(true);
    const [cpu, , gpu] = found.engines;
    expect(cpu!.tokensPerSecond).toBeGreaterThan(0);
    expect(gpu!.tokensPerSecond).toBeGreaterThan(cpu!.tokensPerSecond!);
    expect(gpu!.tokensPerSecondInFloat16).toBeGreaterThan(gpu!.tokensPerSecond!);
    expect(cpu!.tokensPerSecondInFloat16).toBeNull();
    expect(doctorLines(found).join('\n')).toMatch(
      /onnx-webgpu .*about [\d,]+ tokens\/s \(about [\d,]+ with --precision float16\)/,
    );
    expect(found.base).toMatchObject({ rows: 4, sequenceLength: 64, chosen: { engine: 'onnx-webgpu' } });
    expect(found.base!.memory).toBeGreaterThan(1e6);
    expect(doctorLines(found).join('\n')).toMatch(
      /auto .*onnx-webgpu: about [\d,]+ tokens\/s; onnx-cpu [\d,]+/,
    );
  });

  test('with a base of 8 bits predicts its speed, and skips engines without 8 bits', async () => {
    const [whole, found] = [await diagnosis(true), await diagnosis(true, { baseBits: 8 })];
    const [cpu, , , tfjs] = found.engines;
    expect(cpu!.tokensPerSecond).toBeGreaterThan(whole.engines[0]!.tokensPerSecond!);
    expect(tfjs).toMatchObject({ speed: null, lacks: expect.stringContaining('8 bits') });
    const text = doctorLines(found).join('\n');
    expect(text).toMatch(/onnx-cpu +about [\d,]+ tokens\/s +200 GFLOP\/s, 400 at 8 bits +50 GB\/s +2\.0 µs/);
    expect(text).toMatch(/tfjs +skipped/);
    expect(text).toMatch(/tfjs: .*8 bits/);
    expect(text).toMatch(/auto .*about [\d,]+ tokens\/s with a base of 8 bits;/);
    expect(text).toMatch(/next: npx swarm train --model \S+ --base-bits 8 --data/);
    expect(doctorLines(await diagnosis(true, { baseBits: 4 })).join('\n')).toContain(
      'with gradient checkpointing',
    );
  });

  test('in float16 uses the engines that support it, and is a problem where none does', async () => {
    const found = await diagnosis(true, { precision: 'float16' });
    expect(found.problems).toEqual([]);
    expect(found.engines[0]).toMatchObject({
      tokensPerSecond: null,
      lacks: expect.stringContaining('float16'),
    });
    expect(found.base!.chosen).toMatchObject({ engine: 'onnx-webgpu' });
    const none = await diagnosis(true, {
      precision: 'float16',
      probed: async (request) => ({ ...(await probe(request)), speed: null, reason: 'no GPU' }),
    });
    expect(none.base!.chosen).toBeNull();
    expect(none.problems).toEqual([expect.stringContaining('--precision float32')]);
  });

  test('reports too little memory where the processor trains, but not on a GPU', async () => {
    const available = vi.mocked(availableMemory).mockReturnValue(1e6);
    onTestFinished(() => void available.mockReset());
    expect((await diagnosis(true)).problems).toEqual([]);
    const { base, problems } = await diagnosis(true, {
      probed: async (request) => ({
        ...(await probe(request)),
        ...(request.engine !== 'onnx-cpu' && { speed: null, reason: 'no GPU' }),
      }),
    });
    expect(base!.chosen!.engine).toBe('onnx-cpu');
    expect(problems).toEqual([expect.stringContaining('"swarm train --micro-batch 1 --base-bits 4"')]);
  });

  test('of a machine that cannot train has the reason', async () => {
    const found = await diagnosis(false, {
      probed: async (request) => ({ ...(await probe(request)), speed: null, reason: 'broken' }),
    });
    expect(found.problems).toEqual([expect.stringMatching(/^onnx-cpu .*broken/)]);
  });

  test('describes the machine', async () => {
    const machine = await describeMachine();
    expect(machine.memory).toBeGreaterThan(2 ** 28);
    expect(machine.availableMemory).toBeLessThanOrEqual(machine.memory);
    expect(machine.threads).toBeGreaterThanOrEqual(1);
    const known = existsSync('/proc/cpuinfo') || process.platform === 'darwin';
    if (known) expect(machine.instructions!.length).toBeGreaterThan(0);
    else expect(machine.instructions).toBeNull();
  });
});

test('the command measures this machine, and prints text or JSON', async () => {
  const folder = await temporaryFolder();
  const run = async (...args: string[]) => {
    const { context, out } = fakeContext({
      cwd: folder,
      environment: { SWARM_CACHE: join(folder, 'cache') },
    });
    await createProgram(context).parseAsync(['node', 'swarm', 'doctor', '--threads', '1', ...args]);
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
      chosen: { reason: expect.stringContaining('4 bits') },
    },
  });
  expect(found.engines[0]).toMatchObject({ engine: 'onnx-cpu', reason: null });
  expect(found.engines[0].speed.baseFlops).toBeGreaterThan(1e6);
  expect(found.engines[0].tokensPerSecond).toBeGreaterThan(0);
  const text = await run();
  expect(text).toMatch(/onnx-cpu +[\d,]+ GFLOP\/s/);
  expect(text).toMatch(/tfjs +does not run here/);
  expect(text).toContain('npm install');
});
