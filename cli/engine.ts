import { Option } from 'commander';
import type { Environment } from '../common/environment.ts';
import type { ComputeInput, EngineName } from '../index.ts';
import { deviceNames, ENGINE_CHOICE_LIST } from '../lora/engines/names.ts';
import { mergeComputeInputs, parseCompute } from '../lora/train/compute.ts';
import { usageError } from './errors.ts';

/** @param purpose text before the names of the engines */
export function engineOption(purpose = ''): Option {
  return new Option(
    '--engine <name>',
    `${purpose}${ENGINE_CHOICE_LIST} (or SWARM_ENGINE; default: auto, the fastest that runs)`,
  );
}

/** `--engine` of commands that can train on several devices together. */
export function enginesOption(): Option {
  const description = `${ENGINE_CHOICE_LIST}; or several devices that share each batch: onnx-cuda:0,onnx-cuda:1`;
  return new Option(
    '--engine <names>',
    `${description} (or SWARM_ENGINE; default: auto, the fastest that runs)`,
  );
}

/** The part of a `Compute` that the environment sets. */
export function environmentCompute({ SWARM_ENGINE }: Environment): ComputeInput {
  return { engine: SWARM_ENGINE || undefined, origin: 'SWARM_ENGINE' };
}

/**
 * How a command computes that uses one device: as its flags say, else the environment.
 * @throws SwarmError USAGE for several devices; as parseCompute
 */
export function oneDeviceCompute(flags: ComputeInput, environment: Environment): ComputeInput {
  const input = mergeComputeInputs(flags, environmentCompute(environment));
  const { devices } = parseCompute(input);
  if (devices === 'auto' || (devices.length === 1 && devices[0].device === undefined)) return input;
  throw usageError(
    `this command computes on one device, not on ${deviceNames(devices)}`,
    'name one engine, without a number',
  );
}

/** Progress text while an engine is measured. */
export function measuringLine(engine: EngineName): string {
  return `measuring ${engine}: about 2 seconds`;
}
