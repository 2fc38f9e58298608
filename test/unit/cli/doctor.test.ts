import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { diagnose } from '../../../cli/doctor/diagnose.ts';
import { describeMachine } from '../../../cli/doctor/machine.ts';
import { createProgram } from '../../../cli/program.ts';
import { doctorLines } from '../../../cli/views/doctor.ts';
import type { EngineName } from '../../../lora/engines/names.ts';
import type { EngineProbe } from '../../../lora/train/probe.ts';
import { fakeContext } from '../../utils/cli-context.ts';
import { temporaryFolder } from '../../utils/folder.ts';
import { makeTinyModel } from '../../utils/tiny-model.ts';

const { signal } = new AbortController();

/** A machine with a GPU, a broken CUDA, and TensorFlow not installed. */
const probe = async ({ engine }: { engine: EngineName }): Promise<EngineProbe> => {
  const base = { engine, software: false, reason: null, needs: null };
  const speed = { flops: 2e11, bytes: 5e10, secondsPerOperation: 2e-6 };
  if (engine === 'onnx-cpu') return { ...base, speed };
  if (engine === 'onnx-webgpu') {
    return { ...base, speed: { ...speed, flops: 9e12, float16Flops: 2e13, bytes: 5e11 } };
  }
  return { ...base, speed: null, reason: `${engine} has no library`, needs: `install ${engine}` };
};

async function diagnosis(withModel: boolean, probed = probe) {
  const folder = await temporaryFolder();
  const modelDir = withModel ? await makeTinyModel(join(folder, 'model')) : null;
  const recordDir = join(folder, 'records');
  return diagnose({ modelDir, threads: 2, recordDir, now: 0, signal }, { probe: probed });
}

describe('a diagnosis', () => {
  test('has every engine: how fast it is, or what it lacks and how to get it', async () => {
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

  test('of a base says what to expect of each engine, what it takes and what is chosen', async () => {
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
      /auto +takes onnx-webgpu: about \d+ tokens\/s; onnx-cpu \d+/,
    );
  });

  test('of a machine that cannot train says why', async () => {
    const found = await diagnosis(false, async (request) => ({
      ...(await probe(request)),
      speed: null,
      reason: 'broken',
    }));
    expect(found.problems).toEqual(['onnx-cpu does not run: broken; install lora-swarm again']);
  });

  test('knows the machine', async () => {
    const machine = await describeMachine();
    expect(machine.memory).toBeGreaterThan(2 ** 28);
    expect(machine.availableMemory).toBeLessThanOrEqual(machine.memory);
    expect(machine.threads).toBeGreaterThanOrEqual(1);
    const known = existsSync('/proc/cpuinfo') || process.platform === 'darwin';
    if (known) expect(machine.instructions!.length).toBeGreaterThan(0);
    else expect(machine.instructions).toBeNull();
  });
});

test('the command measures this machine and prints it, for people and for programs', async () => {
  const folder = await temporaryFolder();
  const run = async (...args: string[]) => {
    const { context, out } = fakeContext({
      cwd: folder,
      environment: { SWARM_CACHE: join(folder, 'cache') },
    });
    await createProgram(context).parseAsync(['node', 'swarm', 'doctor', '--threads', '1', ...args]);
    return out();
  };
  const found = JSON.parse(await run('--json', '--model', await makeTinyModel(join(folder, 'model'))));
  expect(found).toMatchObject({
    schemaVersion: 1,
    threads: 1,
    problems: [],
    measured: { tokens: 256, width: 32 },
  });
  expect(found.engines[0]).toMatchObject({ engine: 'onnx-cpu', reason: null });
  expect(found.engines[0].tokensPerSecond).toBeGreaterThan(0);
  expect(found.engines[3]).toMatchObject({
    engine: 'tfjs',
    speed: null,
    reason: expect.stringContaining('npm install'),
  });
  expect(await run()).toMatch(/onnx-cpu +[\d,]+ GFLOP\/s/);
});
