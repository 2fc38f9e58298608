/**
 * Entry of a process that measures one engine and ends: a driver that fails takes nothing with it, and what a device's
 * libraries hold in memory is given back.
 */
import { readdir, readFile } from 'node:fs/promises';
import { isSwarmError } from '../../common/errors.ts';
import { createEngine } from '../engines/engine.ts';
import { hasFloat16 } from '../engines/float16.ts';
import { requirementsOf } from '../engines/onnx/engine.ts';
import type { ProbeReply, ProbeRequest } from './probe.ts';
import { measureSpeed } from './speed.ts';

/** Drivers for Vulkan that compute on the processor: Mesa's and Chromium's. */
const SOFTWARE_DRIVERS = ['libvulkan_lvp', 'libvk_swiftshader'];
/** More than the one thread that may wait for a device: a driver that computes fills the cores. */
const PROCESSOR_SHARE = 1.2;
const software: ProbeReply = {
  reason: 'what it found is no GPU but a driver that computes on the processor',
  needs: requirementsOf('onnx-webgpu'),
  software: true,
};

/** Whether the driver of a device is one of the known ones, on a machine (Linux) without any GPU. */
async function hasSoftwareDriver(): Promise<boolean> {
  const maps = await readFile('/proc/self/maps', 'utf8').catch(() => '');
  if (!SOFTWARE_DRIVERS.some((name) => maps.includes(name))) return false;
  const devices = await Promise.all(['/dev', '/dev/dri'].map((path) => readdir(path).catch(() => [])));
  return !devices.flat().some((name) => /^(renderD\d+|nvidia\d+|dxg)$/.test(name));
}

async function probe(request: ProbeRequest): Promise<ProbeReply> {
  const { signal } = new AbortController();
  try {
    const engine = await createEngine(request.engine, request);
    const isWebGpu = engine.name === 'onnx-webgpu';
    if (isWebGpu && (await hasSoftwareDriver())) return software;
    const busy = process.cpuUsage();
    const started = performance.now();
    const float16 = await hasFloat16(engine);
    const speed = await measureSpeed(engine, { ...request, float16, signal });
    const { user, system } = process.cpuUsage(busy);
    // The engine does not say what it found; the doing of this process does.
    const share = (user + system) / 1e3 / (performance.now() - started);
    if (isWebGpu && share > PROCESSOR_SHARE) return software;
    return { speed };
  } catch (error) {
    const { reason, needs } = (isSwarmError(error) ? error.values : {}) as {
      reason?: string;
      needs?: string;
    };
    const message = error instanceof Error ? error.message : String(error);
    return { reason: reason ?? message, needs: needs ?? null, software: false };
  }
}

process.on('message', async (request: ProbeRequest) => {
  const reply = await probe(request);
  // Some drivers fail while they are unloaded, after all is done: nothing is unloaded.
  process.send!(reply, () => process.kill(process.pid, 'SIGKILL'));
});
process.on('disconnect', () => process.exit(0));
