/**
 * Entry point of a process that tries or measures one engine, then ends. A crashing driver ends only this process,
 * and the end of the process frees the memory of the device's libraries.
 */
import { isSwarmError } from '../../../common/errors.ts';
import { serveCalls } from '../../../common/workers/calls.ts';
import { parentChannel } from '../../../common/workers/entry.ts';
import { createEngine, type Engine } from '../../engines/engine.ts';
import { hasFloat16 } from '../../engines/float16.ts';
import { requirementsOf } from '../../engines/onnx/engine.ts';
import { trainError } from '../errors.ts';
import type { ProbeFailure, ProbeMethods, ProbeRequest, TryRequest } from './probe.ts';
import { hasSoftwareDriver } from './software-driver.ts';
import { measureSpeed } from './speed.ts';

/**
 * Seconds of processor time per second of a measurement, above which the device counts as a software driver. With a
 * real GPU one thread is busy; a software driver keeps all cores busy.
 */
const PROCESSOR_SHARE = 1.2;
const software: ProbeFailure = {
  reason: 'the device it found is a software driver on the processor, not a GPU',
  needs: requirementsOf('onnx-webgpu'),
  software: true,
};

async function usesSoftware(engine: Engine): Promise<boolean> {
  return engine.name === 'onnx-webgpu' && (await hasSoftwareDriver());
}

async function measure(engine: Engine, request: ProbeRequest): Promise<ProbeMethods['measure']['reply']> {
  const { signal } = new AbortController();
  if (await usesSoftware(engine)) return software;
  const before = process.cpuUsage();
  const started = performance.now();
  const float16 = await hasFloat16(engine);
  const speed = await measureSpeed(engine, { ...request, float16, signal });
  const { user, system } = process.cpuUsage(before);
  // WebGPU does not report what kind of device it found. If this process used much processor time, the device
  // is a software driver.
  const share = (user + system) / 1e3 / (performance.now() - started);
  if (engine.name === 'onnx-webgpu' && share > PROCESSOR_SHARE) return software;
  return { speed, onProcessor: engine.onProcessor ?? false };
}

/** Starts the engine and uses it. An engine that does not run gives a result, not an error. */
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
      probe(request, async (engine) => {
        const float16 = await hasFloat16(engine);
        return { runs: true, float16, software: await usesSoftware(engine) } as const;
      }),
  },
  {
    channel: parentChannel(),
    failed: (message, options) => trainError('PROBE_FAILED', message, {}, options),
  },
);
