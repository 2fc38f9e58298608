/**
 * Entry of a process that tries or measures one engine and ends. A driver that crashes takes nothing else with it, and
 * the memory of a device's libraries is released.
 */
import { isSwarmError } from '../../common/errors.ts';
import { serveCalls } from '../../common/workers/calls.ts';
import { parentChannel } from '../../common/workers/entry.ts';
import { createEngine, type Engine } from '../engines/engine.ts';
import { hasFloat16 } from '../engines/float16.ts';
import { requirementsOf } from '../engines/onnx/engine.ts';
import type { ProbeFailure, ProbeMethods, ProbeRequest, TryRequest } from './probe.ts';
import { hasSoftwareDriver } from './software-driver.ts';
import { measureSpeed } from './speed.ts';

/** Processor time per second of waiting for a device. A real GPU keeps one thread busy; a software driver fills the cores. */
const PROCESSOR_SHARE = 1.2;
const software: ProbeFailure = {
  reason: 'the device it found is a software driver on the processor, not a GPU',
  needs: requirementsOf('onnx-webgpu'),
  software: true,
};

async function measure(engine: Engine, request: ProbeRequest): Promise<ProbeMethods['measure']['reply']> {
  const { signal } = new AbortController();
  const isWebGpu = engine.name === 'onnx-webgpu';
  if (isWebGpu && (await hasSoftwareDriver())) return software;
  const before = process.cpuUsage();
  const started = performance.now();
  const float16 = await hasFloat16(engine);
  const speed = await measureSpeed(engine, { ...request, float16, signal });
  const { user, system } = process.cpuUsage(before);
  // WebGPU does not report what kind of device it found; this process's use of the processor shows it.
  const share = (user + system) / 1e3 / (performance.now() - started);
  if (isWebGpu && share > PROCESSOR_SHARE) return software;
  return { speed, onProcessor: engine.onProcessor ?? false };
}

/** Starts the engine and uses it. An engine that does not run is a result. */
async function probe<Result>(
  request: ProbeRequest | TryRequest,
  use: (engine: Engine) => Promise<Result>,
): Promise<Result | ProbeFailure> {
  try {
    return await use(await createEngine(request.engine, request));
  } catch (error) {
    const { reason, needs } = (isSwarmError(error) ? error.values : {}) as {
      reason?: string;
      needs?: string;
    };
    const text = error instanceof Error ? error.message : String(error);
    return { reason: reason ?? text, needs: needs ?? null, software: false };
  }
}

serveCalls<ProbeMethods>(
  {
    measure: (request) => probe(request, (engine) => measure(engine, request)),
    try: (request) =>
      probe(request, async (engine) => ({ runs: true, float16: await hasFloat16(engine) }) as const),
  },
  { channel: parentChannel(), failed: 'PROBE_FAILED' },
);
