import { existsSync } from 'node:fs';
import { readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeEach, describe, expect, test, vi } from 'vitest';
import type { EngineName } from '../../../../lora/engines/names.ts';
import { type BaseModel, openBase } from '../../../../lora/models/base-model.ts';
import { type ChooseOptions, chooseEngine, probeMachine } from '../../../../lora/train/choose.ts';
import { type EngineProbe, type ProbeRequest, probeEngine } from '../../../../lora/train/probe.ts';
import { temporaryFolder } from '../../../utils/folder.ts';
import { makeTinyModel } from '../../../utils/tiny-model.ts';

const DAY_MS = 24 * 3_600_000;
const { signal } = new AbortController();

let folder: string;
let model: BaseModel;
let options: ChooseOptions;
beforeEach(async () => {
  folder = await temporaryFolder();
  model = await openBase(await makeTinyModel(join(folder, 'model')));
  const recordDir = join(folder, 'records');
  const computing = { baseBits: 32, precision: 'float32' } as const;
  options = { engine: 'auto', model, threads: 1, ...computing, recordDir, now: 1e12, signal };
});

interface Speed {
  /** Times a slow one, of everything in float32. */
  readonly plain: number;
  /** Likewise of products with a base of fewer bits. @default as plain */
  readonly fewerBits?: number;
  /** Likewise of those in float16. @default the device does not have it */
  readonly float16?: number;
}

/** A machine on which engines are so fast; those not named are not there. */
function machine(speeds: Partial<Record<EngineName, number | Speed | 'software'>>) {
  const asked: EngineName[] = [];
  const probe = async ({ engine, baseBits = 32 }: ProbeRequest): Promise<EngineProbe> => {
    asked.push(engine);
    const speed = speeds[engine];
    if (speed === undefined)
      return { engine, speed: null, software: false, reason: 'not there', needs: null };
    if (speed === 'software') return { engine, speed: null, software: true, reason: 'no GPU', needs: null };
    const { plain, fewerBits = plain, float16 }: Speed = typeof speed === 'number' ? { plain: speed } : speed;
    const measured = {
      flops: plain * 1e9,
      ...(baseBits !== 32 && { baseFlops: fewerBits * 1e9 }),
      ...(float16 !== undefined && { float16Flops: float16 * 1e9 }),
      bytes: 1e15,
      secondsPerOperation: 0,
    };
    return { engine, speed: measured, software: false, reason: null, needs: null };
  };
  return { asked, deps: { probe } };
}

describe('the engine', () => {
  test('that was asked for is taken unmeasured', async () => {
    const { asked, deps } = machine({});
    expect(await chooseEngine({ ...options, engine: 'tfjs' }, deps)).toMatchObject({ engine: 'tfjs' });
    expect(asked).toEqual([]);
  });

  test('for a base of fewer bits is one that computes with it, remembered by itself', async () => {
    const { asked, deps } = machine({ 'onnx-cpu': 1, 'onnx-webgpu': 100, tfjs: 1000 });
    expect(await chooseEngine(options, deps)).toMatchObject({ engine: 'tfjs' });
    asked.length = 0;
    const fewer = await chooseEngine({ ...options, baseBits: 4 }, deps);
    expect(fewer).toMatchObject({
      engine: 'onnx-webgpu',
      reason: expect.stringMatching(
        /^about [\d,]+ tokens\/s with a base of 4 bits; onnx-cpu [\d,]+; tfjs does not compute with a base of 4 bits$/,
      ),
    });
    expect(asked).not.toContain('tfjs');
    expect(await chooseEngine({ ...options, baseBits: 4 }, machine({}).deps)).toMatchObject({
      engine: 'onnx-webgpu',
    });
  });

  test('is the fastest with the base as it will be kept: its bits may turn the order around', async () => {
    const { deps } = machine({
      'onnx-cpu': { plain: 1, fewerBits: 3 },
      'onnx-webgpu': { plain: 2, fewerBits: 0.1 },
    });
    expect(await chooseEngine(options, deps)).toMatchObject({ engine: 'onnx-webgpu' });
    expect(await chooseEngine({ ...options, baseBits: 8 }, deps)).toMatchObject({ engine: 'onnx-cpu' });
  });

  test('is the fastest in the precision that will be computed in, and has it', async () => {
    const { asked, deps } = machine({
      'onnx-cpu': 50,
      'onnx-cuda': { plain: 10, float16: 20 },
      'onnx-webgpu': { plain: 100 },
      tfjs: 1000,
    });
    const chosen = await chooseEngine({ ...options, precision: 'float16' }, deps);
    expect(chosen).toEqual({
      engine: 'onnx-cuda',
      reason: expect.stringMatching(
        /^about [\d,]+ tokens\/s in float16; onnx-webgpu has no device with float16; tfjs has no products in float16$/,
      ),
    });
    expect(asked).toEqual(['onnx-cuda', 'onnx-webgpu']);
    // What is remembered for one precision is nothing for the other.
    expect(await chooseEngine(options, deps)).toMatchObject({ engine: 'tfjs' });
  });

  test('in float16 is none where no device has it', async () => {
    const { deps } = machine({ 'onnx-cpu': 1, 'onnx-webgpu': { plain: 9 } });
    await expect(chooseEngine({ ...options, precision: 'float16' }, deps)).rejects.toMatchObject({
      code: 'PRECISION',
      message: expect.stringContaining('onnx-cuda: not there; onnx-webgpu: its device lacks it'),
      next: expect.stringContaining('--precision float32'),
    });
    expect((await probeMachine({ ...options, precision: 'float16' }, deps)).chosen).toBeNull();
  });

  test('takes some seconds to find, of which each part is told', async () => {
    const told: EngineName[] = [];
    const onProbe = (engine: EngineName) => told.push(engine);
    const { asked, deps } = machine({ 'onnx-cpu': 1, 'onnx-cuda': 9 });
    await chooseEngine({ ...options, baseBits: 4, onProbe }, deps);
    expect(told).toEqual(['onnx-cuda', 'onnx-webgpu', 'onnx-cpu']);
    expect(told).toEqual(asked);
  });

  test('is the processor where nothing else runs, which then is not measured', async () => {
    const { asked, deps } = machine({ 'onnx-cpu': 1 });
    const chosen = await chooseEngine(options, deps);
    const reason = 'no GPU was found ("swarm doctor" says what is missing)';
    expect(chosen).toEqual({ engine: 'onnx-cpu', reason });
    const again = await chooseEngine(options, machine({}).deps);
    expect(again.reason).toMatch(/^no GPU was found \("swarm doctor" says what is missing\); measured on /);
    expect(asked).not.toContain('onnx-cpu');
  });

  test('is never a driver that computes on the processor', async () => {
    const { deps } = machine({ 'onnx-cpu': 1, 'onnx-webgpu': 'software' });
    const chosen = await chooseEngine(options, deps);
    expect(chosen).toMatchObject({ engine: 'onnx-cpu', reason: expect.stringContaining('software driver') });
  });

  test('is the fastest, with the others in its reason', async () => {
    const { deps } = machine({ 'onnx-cpu': 1, 'onnx-cuda': 9, 'onnx-webgpu': 30 });
    const { engine, reason } = await chooseEngine(options, deps);
    expect(engine).toBe('onnx-webgpu');
    expect(reason).toMatch(/^about [\d,]+ tokens\/s; onnx-cpu [\d,]+, onnx-cuda [\d,]+$/);
  });

  test('must be clearly faster than the processor', async () => {
    const { deps } = machine({ 'onnx-cpu': 1, 'onnx-webgpu': 1.1 });
    expect(await chooseEngine(options, deps)).toMatchObject({ engine: 'onnx-cpu' });
  });
});

describe('a choice', () => {
  test('is remembered for this base and number of threads, for a week', async () => {
    const first = machine({ 'onnx-cpu': 1, 'onnx-webgpu': 9 });
    const chosen = await chooseEngine(options, first.deps);
    const later = machine({ 'onnx-cpu': 1 });
    const again = await chooseEngine({ ...options, now: options.now + DAY_MS }, later.deps);
    expect(again).toEqual({ engine: 'onnx-webgpu', reason: `${chosen.reason}; measured on 2001-09-09` });
    expect(later.asked).toEqual([]);

    const other = await openBase(await makeTinyModel(join(folder, 'other'), { hiddenSize: 64 }));
    for (const change of [{ model: other }, { threads: 2 }, { now: options.now + 8 * DAY_MS }, { now: 1 }]) {
      const { asked, deps } = machine({ 'onnx-cpu': 1 });
      expect(await chooseEngine({ ...options, ...change }, deps)).toMatchObject({ engine: 'onnx-cpu' });
      expect(asked).not.toEqual([]);
    }
  });

  test('that cannot be read is made again', async () => {
    await chooseEngine(options, machine({ 'onnx-cpu': 1, 'onnx-webgpu': 9 }).deps);
    const [record] = await readdir(options.recordDir);
    await writeFile(join(options.recordDir, record!), '{"engine":"abacus"}');
    const { asked, deps } = machine({ 'onnx-cpu': 1 });
    await chooseEngine(options, deps);
    expect(asked).not.toEqual([]);
  });

  test('is made by measuring all engines when the whole machine is looked at, and remembered too', async () => {
    const { asked, deps } = machine({ 'onnx-cpu': 1, 'onnx-cuda': 9 });
    const { probes, chosen } = await probeMachine(options, deps);
    expect(asked).toEqual(['onnx-cpu', 'onnx-cuda', 'onnx-webgpu', 'tfjs']);
    expect(probes.map(({ engine }) => engine)).toEqual(asked);
    expect(await chooseEngine(options, machine({}).deps)).toMatchObject({ engine: chosen!.engine });
  });
});

describe('a probe', () => {
  const request = { threads: 1, tokens: 32, width: 32 };

  test('measures an engine in a process of its own', async () => {
    const { speed, software, reason } = await probeEngine({ ...request, engine: 'onnx-cpu', signal });
    expect(speed!.flops).toBeGreaterThan(1e6);
    expect(speed!.bytes).toBeGreaterThan(1e6);
    expect(speed!.secondsPerOperation).toBeGreaterThan(0);
    expect({ software, reason }).toEqual({ software: false, reason: null });
  });

  test('has the speed of products with a base of so many bits', async () => {
    // For the file of that base, of which nothing may stay.
    vi.stubEnv('TMPDIR', folder);
    for (const baseBits of [8, 4] as const) {
      const { speed } = await probeEngine({ ...request, baseBits, engine: 'onnx-cpu', signal });
      expect(speed!.flops).toBeGreaterThan(1e6);
      expect(speed!.baseFlops).toBeGreaterThan(1e6);
    }
    vi.unstubAllEnvs();
    expect((await readdir(folder)).filter((name) => name.startsWith('swarm-'))).toEqual([]);
  });

  test('of an engine that does not run has the reason of its provider, and what it needs', async () => {
    // No machine that these tests run on has TensorFlow; nor is CUDA tried where its libraries are.
    const tfjs = await probeEngine({ ...request, engine: 'tfjs', signal });
    expect(tfjs).toMatchObject({ speed: null, reason: expect.stringContaining('TensorFlow') });
    const cuda = await probeEngine({ ...request, engine: 'onnx-cuda', signal });
    if (cuda.speed === null) {
      expect(cuda.reason).toMatch(/libonnxruntime_providers_shared|\.so|CUDA|cuda/);
      expect(cuda.needs).toMatch(/node \/.*install\.js --onnxruntime-node-install=cuda12/);
    }
  });

  test('knows a software driver, where one is installed', async () => {
    const { speed, software, reason } = await probeEngine({ ...request, engine: 'onnx-webgpu', signal });
    if (existsSync('/dev/dri') || existsSync('/dev/nvidia0') || process.platform !== 'linux') {
      expect(speed === null).toBe(reason !== null);
    } else {
      expect(speed).toBeNull();
      expect(reason).toMatch(software ? /computes on the processor/ : /adapter|[Vv]ulkan/);
    }
  });

  test('ends when it is given up', async () => {
    const controller = new AbortController();
    const probing = probeEngine({ ...request, engine: 'onnx-cpu', signal: controller.signal });
    controller.abort(new Error('enough'));
    await expect(probing).rejects.toThrow('enough');
  });
});
