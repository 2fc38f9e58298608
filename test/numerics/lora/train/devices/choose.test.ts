import { existsSync } from 'node:fs';
import { readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeEach, describe, expect, onTestFinished, test, vi } from 'vitest';
import type { Device, EngineName } from '../../../../../lora/engines/names.ts';
import { type BaseModel, openBase } from '../../../../../lora/models/base/base-model.ts';
import { type Compute, type ComputeInput, parseCompute } from '../../../../../lora/train/compute.ts';
import {
  type ChooseOptions,
  type ChosenEngine,
  probeMachine,
  requireDevices,
  resolveDevices,
  softwareReason,
} from '../../../../../lora/train/devices/choose.ts';
import { type EngineProbe, type ProbeRequest, probeEngine } from '../../../../../lora/train/devices/probe.ts';
import { temporaryFolder } from '../../../../utils/folder.ts';
import { makeTinyModel } from '../../../../utils/models/tiny-model.ts';

const DAY_MS = 24 * 3_600_000;
const { signal } = new AbortController();

let folder: string;
let model: BaseModel;
let options: ChooseOptions;
beforeEach(async () => {
  folder = await temporaryFolder();
  model = await openBase(await makeTinyModel(join(folder, 'model')));
  const recordDir = join(folder, 'records');
  options = { model, recordDir, now: 1e12, signal };
});

const on = (input: ComputeInput = {}): Compute => parseCompute({ threads: 1, ...input });

/** Returns the first engine for a model, and the reason why `auto` chose it. */
async function choose(
  compute: Compute,
  deps: Parameters<typeof resolveDevices>[2],
  change: Partial<ChooseOptions> = {},
): Promise<ChosenEngine> {
  const resolved = await resolveDevices(compute, { ...options, ...change }, deps);
  return { engine: resolved.compute.devices[0].engine, reason: resolved.reason ?? '' };
}

interface Speed {
  /** GFLOP/s in float32. */
  readonly plain: number;
  /** GFLOP/s of products with an 8-bit or 4-bit base. @default plain */
  readonly fewerBits?: number;
  /** GFLOP/s of products in float16. @default the device lacks float16 */
  readonly float16?: number;
  /** @default false */
  readonly onProcessor?: boolean;
}

/**
 * A machine with engines of these speeds, and no others. If an engine has several speeds, each probe of it measures the
 * next one.
 */
function machine(speeds: Partial<Record<EngineName, number | Speed | 'software' | number[]>>) {
  const asked: EngineName[] = [];
  const probe = async ({ engine, baseBits = 32 }: ProbeRequest): Promise<EngineProbe> => {
    asked.push(engine);
    const speed = speeds[engine];
    if (speed === undefined) return { engine, speed: null, software: false, reason: 'absent', needs: null };
    if (speed === 'software') return { engine, speed: null, software: true, reason: 'no GPU', needs: null };
    const now = Array.isArray(speed) ? speed[asked.filter((name) => name === engine).length - 1]! : speed;
    const measuredSpeed: Speed = typeof now === 'number' ? { plain: now } : now;
    const { plain, fewerBits = plain, float16, onProcessor = false } = measuredSpeed;
    const measured = {
      flops: plain * 1e9,
      ...(baseBits !== 32 && { baseFlops: fewerBits * 1e9 }),
      ...(float16 !== undefined && { float16Flops: float16 * 1e9 }),
      bytes: 1e15,
      secondsPerOperation: 0,
    };
    return { engine, speed: measured, software: false, onProcessor, reason: null, needs: null };
  };
  return { asked, deps: { probe } };
}

describe('the engine', () => {
  test('is the named one, without a measurement', async () => {
    const { asked, deps } = machine({});
    expect(await choose(on({ engine: 'tfjs' }), deps)).toMatchObject({ engine: 'tfjs' });
    expect(asked).toEqual([]);
  });

  test('for a 4-bit base takes an engine with 4 bits, and is remembered separately', async () => {
    const { asked, deps } = machine({ 'onnx-cpu': 1, 'onnx-webgpu': 100, tfjs: 1000 });
    expect(await choose(on(), deps)).toMatchObject({ engine: 'tfjs' });
    asked.length = 0;
    const fewer = await choose(on({ baseBits: 4 }), deps);
    expect(fewer).toMatchObject({
      engine: 'onnx-webgpu',
      reason: expect.stringMatching(
        /\b[\d,]+ tokens\/s\b.*\b4-bit base\b.*\bonnx-cpu [\d,]+\b.*\btfjs\b.*\b4-bit base$/,
      ),
    });
    expect(asked).not.toContain('tfjs');
    expect(await choose(on({ baseBits: 4 }), machine({}).deps)).toMatchObject({
      engine: 'onnx-webgpu',
    });
  });

  test('is the fastest with the bits of the base, which can reverse the order', async () => {
    const { deps } = machine({
      'onnx-cpu': { plain: 1, fewerBits: 3 },
      'onnx-webgpu': { plain: 2, fewerBits: 0.1 },
    });
    expect(await choose(on(), deps)).toMatchObject({ engine: 'onnx-webgpu' });
    expect(await choose(on({ baseBits: 8 }), deps)).toMatchObject({ engine: 'onnx-cpu' });
  });

  test('is the fastest that supports the precision', async () => {
    const { asked, deps } = machine({
      'onnx-cpu': 50,
      'onnx-cuda': { plain: 10, float16: 20 },
      'onnx-webgpu': { plain: 100 },
      tfjs: 1000,
    });
    const chosen = await choose(on({ precision: 'float16' }), deps);
    expect(chosen).toEqual({
      engine: 'onnx-cuda',
      reason: expect.stringMatching(
        /\b[\d,]+ tokens\/s\b.*\bfloat16\b.*\bonnx-webgpu\b.*\bfloat16\b.*\btfjs\b.*\bfloat16$/,
      ),
    });
    expect(new Set(asked)).toEqual(new Set(['onnx-cuda', 'onnx-webgpu']));
    // The record of float32 speeds is separate, so the choice in float32 differs.
    expect(await choose(on(), deps)).toMatchObject({ engine: 'tfjs' });
  });

  test('for float16 is an error if no device supports it', async () => {
    const { deps } = machine({ 'onnx-cpu': 1, 'onnx-webgpu': { plain: 9 } });
    await expect(choose(on({ precision: 'float16' }), deps)).rejects.toMatchObject({
      code: 'PRECISION',
      message: expect.stringMatching(/\bonnx-cuda\b.*\babsent\b.*\bonnx-webgpu\b.*\bfloat16\b/),
      next: expect.stringContaining('--precision float32'),
    });
    expect(
      (await probeMachine({ ...options, compute: on({ precision: 'float16' }) }, deps)).chosen,
    ).toBeNull();
  });

  test('is found with a progress report for each measurement', async () => {
    const told: EngineName[] = [];
    const onProbe = (engine: EngineName) => told.push(engine);
    const { asked, deps } = machine({ 'onnx-cpu': 1, 'onnx-cuda': 9 });
    await choose(on({ baseBits: 4 }), deps, { onProbe });
    expect(told).toEqual(['onnx-cuda', 'onnx-webgpu', 'onnx-cpu', 'onnx-cuda', 'onnx-cpu']);
    expect(told).toEqual(asked);
  });

  test('is the processor, without a measurement, if nothing else runs', async () => {
    const { asked, deps } = machine({ 'onnx-cpu': 1 });
    const chosen = await choose(on(), deps);
    expect(chosen).toEqual({ engine: 'onnx-cpu', reason: expect.stringContaining('"lora-swarm doctor"') });
    const again = await choose(on(), machine({}).deps);
    expect(again.reason).toMatch(/"lora-swarm doctor".*\b\d{4}-\d\d-\d\d\b/);
    expect(asked).not.toContain('onnx-cpu');
  });

  test('is never a software driver', async () => {
    const { deps } = machine({ 'onnx-cpu': 1, 'onnx-webgpu': 'software' });
    const chosen = await choose(on(), deps);
    expect(chosen).toMatchObject({ engine: 'onnx-cpu', reason: expect.stringContaining('onnx-webgpu') });
  });

  test('is the fastest, and its reason names the others', async () => {
    const { deps } = machine({ 'onnx-cpu': 1, 'onnx-cuda': 9, 'onnx-webgpu': 30 });
    const { engine, reason } = await choose(on(), deps);
    expect(engine).toBe('onnx-webgpu');
    expect(reason).toMatch(/\b[\d,]+ tokens\/s\b.*\bonnx-cpu [\d,]+.*\bonnx-cuda [\d,]+$/);
  });

  test('must be clearly faster than the processor', async () => {
    const { deps } = machine({ 'onnx-cpu': 1, 'onnx-webgpu': 1.1 });
    expect(await choose(on(), deps)).toMatchObject({ engine: 'onnx-cpu' });
  });

  test('is compared by the better of two alternating measurements', async () => {
    // Another program slowed the first measurement of the processor.
    const { asked, deps } = machine({ 'onnx-cpu': [0.1, 10], 'onnx-webgpu': [9, 8] });
    const { engine } = await choose(on(), deps);
    expect(engine).toBe('onnx-cpu');
    expect(asked).toEqual(['onnx-cuda', 'onnx-webgpu', 'tfjs', 'onnx-cpu', 'onnx-webgpu', 'onnx-cpu']);
  });

  test('is never TensorFlow on the processor, however fast it seems', async () => {
    const { asked, deps } = machine({ 'onnx-cpu': 1, tfjs: { plain: 9, onProcessor: true } });
    const { engine, reason } = await choose(on(), deps);
    expect(engine).toBe('onnx-cpu');
    expect(reason).toContain('tfjs');
    // No other engine is a candidate, so the speed of the processor is not measured.
    expect(asked).not.toContain('onnx-cpu');
    const gpu = machine({ 'onnx-cpu': 1, 'onnx-cuda': 5, tfjs: { plain: 9, onProcessor: true } });
    expect(await choose(on({ threads: 2 }), gpu.deps)).toMatchObject({ engine: 'onnx-cuda' });
  });
});

describe('named devices', () => {
  test('are started before any other work; onnx-cpu is not tried', async () => {
    const tried: unknown[] = [];
    const attempt = async ({ engine, device }: Device) => {
      tried.push([engine, device]);
      return { runs: true, float16: false, software: false } as const;
    };
    const { compute } = await resolveDevices(on({ engine: 'onnx-cpu,onnx-cuda:1' }), options);
    await requireDevices(compute, { signal }, { attempt });
    expect(tried).toEqual([['onnx-cuda', 1]]);
    const half = requireDevices(
      { ...compute, devices: [{ engine: 'onnx-cuda' }], precision: 'float16' },
      { signal },
      { attempt },
    );
    await expect(half).rejects.toMatchObject({ code: 'PRECISION', kind: 'usage' });
  });

  test('that found only a software driver are named', async () => {
    const compute = { ...on(), devices: [{ engine: 'onnx-cpu' }, { engine: 'onnx-webgpu' }] } as const;
    for (const software of [true, false]) {
      const attempt = async () => ({ runs: true, float16: false, software }) as const;
      const reason = await softwareReason(compute, { signal }, { attempt });
      expect(reason).toEqual(software ? expect.stringMatching(/^onnx-webgpu .*software/) : null);
    }
  });

  test('that do not run are an error with the reason and what is needed', async () => {
    const compute = { ...on(), devices: [{ engine: 'tfjs' }] } as const;
    // No machine that runs these tests has TensorFlow.
    await expect(requireDevices(compute, { signal })).rejects.toMatchObject({
      code: 'ENGINE_UNAVAILABLE',
      values: { engine: 'tfjs', reason: expect.stringContaining('TensorFlow') },
      // The shortest way stands first, because a narrow screen may cut the end.
      next: expect.stringMatching(/^[^;]*--engine onnx-cpu\b.*npm install/),
    });
  });
});

describe('a choice', () => {
  test('is remembered for a week, for this base and number of threads', async () => {
    const first = machine({ 'onnx-cpu': 1, 'onnx-webgpu': 9 });
    const chosen = await choose(on(), first.deps);
    const later = machine({ 'onnx-cpu': 1 });
    const again = await choose(on(), later.deps, { now: options.now + DAY_MS });
    expect(again.engine).toBe('onnx-webgpu');
    for (const part of [chosen.reason, '2001-09-09']) expect(again.reason).toContain(part);
    expect(later.asked).toEqual([]);

    const other = await openBase(await makeTinyModel(join(folder, 'other'), { hiddenSize: 64 }));
    const changes = [{ model: other }, {}, { now: options.now + 8 * DAY_MS }, { now: 1 }];
    for (const [i, change] of changes.entries()) {
      const { asked, deps } = machine({ 'onnx-cpu': 1 });
      const compute = on({ threads: i === 1 ? 2 : 1 });
      expect(await choose(compute, deps, change)).toMatchObject({ engine: 'onnx-cpu' });
      expect(asked).not.toEqual([]);
    }
  });

  test('is made again when the drivers change, and says where it is stored otherwise', async () => {
    onTestFinished(() => void vi.unstubAllEnvs());
    vi.stubEnv('VK_DRIVER_FILES', '/nonexistent');
    await choose(on(), machine({}).deps);
    const stored = await choose(on(), machine({ 'onnx-webgpu': 9 }).deps);
    expect(stored).toEqual({
      engine: 'onnx-cpu',
      reason: expect.stringContaining(options.recordDir),
    });
    vi.stubEnv('VK_DRIVER_FILES', '/usr/share/vulkan/icd.d/nvidia_icd.json');
    expect(await choose(on(), machine({ 'onnx-webgpu': 9 }).deps)).toMatchObject({ engine: 'onnx-webgpu' });
  });

  test('is made again if its record is damaged', async () => {
    await choose(on(), machine({ 'onnx-cpu': 1, 'onnx-webgpu': 9 }).deps);
    const [record] = await readdir(options.recordDir);
    await writeFile(join(options.recordDir, record!), '{"engine":"abacus"}');
    const { asked, deps } = machine({ 'onnx-cpu': 1 });
    await choose(on(), deps);
    expect(asked).not.toEqual([]);
  });

  test('also follows from a measurement of the whole machine, and is remembered', async () => {
    const { asked, deps } = machine({ 'onnx-cpu': 1, 'onnx-cuda': 9 });
    const { probes, chosen } = await probeMachine({ ...options, compute: on() }, deps);
    const all = ['onnx-cpu', 'onnx-cuda', 'onnx-webgpu', 'tfjs'];
    expect(asked).toEqual([...all, 'onnx-cpu', 'onnx-cuda']);
    expect(probes.map(({ engine }) => engine)).toEqual(all);
    expect(await choose(on(), machine({}).deps)).toMatchObject({ engine: chosen!.engine });
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

  test('measures products with an 8-bit or 4-bit base', async () => {
    // The probe writes a weight file there, and must delete it.
    vi.stubEnv('TMPDIR', folder);
    for (const baseBits of [8, 4] as const) {
      const { speed } = await probeEngine({ ...request, baseBits, engine: 'onnx-cpu', signal });
      expect(speed!.flops).toBeGreaterThan(1e6);
      expect(speed!.baseFlops).toBeGreaterThan(1e6);
    }
    vi.unstubAllEnvs();
    expect((await readdir(folder)).filter((name) => name.startsWith('swarm-'))).toEqual([]);
  });

  test('of an engine that does not run has its reason, and what it needs', async () => {
    // No machine that runs these tests has TensorFlow; some may have CUDA.
    const tfjs = await probeEngine({ ...request, engine: 'tfjs', signal });
    expect(tfjs).toMatchObject({ speed: null, reason: expect.stringContaining('TensorFlow') });
    const cuda = await probeEngine({ ...request, engine: 'onnx-cuda', signal });
    if (cuda.speed === null) {
      expect(cuda.reason).toMatch(/libonnxruntime_providers_shared|\.so|CUDA|cuda/);
      expect(cuda.needs).toMatch(/node \/.*install\.js --onnxruntime-node-install=cuda12/);
    }
  });

  test('recognises a software driver', async () => {
    const { speed, software, reason } = await probeEngine({ ...request, engine: 'onnx-webgpu', signal });
    if (existsSync('/dev/dri') || existsSync('/dev/nvidia0') || process.platform !== 'linux') {
      expect(speed === null).toBe(reason !== null);
    } else {
      expect(speed).toBeNull();
      expect(reason).toEqual(software ? expect.any(String) : expect.stringMatching(/adapter|vulkan/i));
      const compute = { ...on(), devices: [{ engine: 'onnx-webgpu' }] } as const;
      const named = await softwareReason(compute, { signal });
      expect(named !== null).toBe(software);
    }
  });

  test('ends when it is aborted', async () => {
    const controller = new AbortController();
    const probing = probeEngine({ ...request, engine: 'onnx-cpu', signal: controller.signal });
    controller.abort(new Error('enough'));
    await expect(probing).rejects.toBe(controller.signal.reason);
  });
});
