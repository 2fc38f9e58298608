/** Diagnoses a made-up machine (lora/doctor), for tests of the diagnosis and of its view. */
import { join } from 'node:path';
import { type Diagnosis, diagnose } from '../../../lora/doctor/diagnose.ts';
import type { Precision } from '../../../lora/engines/precision.ts';
import type { BaseBits } from '../../../lora/models/base/base-bits.ts';
import { parseCompute } from '../../../lora/train/compute.ts';
import type { EngineProbe, ProbeRequest } from '../../../lora/train/devices/probe.ts';
import { temporaryFolder } from '../folder.ts';
import { makeTinyModel } from '../models/tiny-model.ts';

/** The probe of a machine with a GPU and a broken CUDA, on which TensorFlow is not installed. */
export async function fakeProbe({ engine, baseBits = 32 }: ProbeRequest): Promise<EngineProbe> {
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
}

export interface Change {
  probe?: typeof fakeProbe;
  baseBits?: BaseBits;
  precision?: Precision;
}

export async function fakeDiagnosis(
  withModel: boolean,
  { probe = fakeProbe, ...change }: Change = {},
): Promise<Diagnosis> {
  const folder = await temporaryFolder();
  const modelDir = withModel ? await makeTinyModel(join(folder, 'model')) : null;
  const compute = parseCompute({ threads: 2, ...change });
  const { signal } = new AbortController();
  return diagnose({ modelDir, compute, cacheDir: join(folder, 'cache'), now: 0, signal }, { probe });
}
