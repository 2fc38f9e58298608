import { Option } from 'commander';
import type { Environment } from '../../common/environment.ts';
import type { ComputeInput, EngineName } from '../../index.ts';
import { ENGINE_CHOICE_LIST } from '../../lora/engines/names.ts';
import { mergeComputeInputs } from '../../lora/train/compute.ts';

/** Returns the option --engine of a command that uses one device. @param purpose text before the names of the engines */
export function engineOption(purpose = 'engine that computes the model: '): Option {
  return new Option(
    '--engine <name>',
    `${purpose}${ENGINE_CHOICE_LIST} (environment variable: SWARM_ENGINE; default: auto, the fastest on this machine)`,
  );
}

/** Returns the option --engine of a command that can train on several devices. */
export function enginesOption(): Option {
  return new Option(
    '--engine <names>',
    `engine to train with: ${ENGINE_CHOICE_LIST}; or several devices that share each batch, such as onnx-cuda:0,onnx-cuda:1 (environment variable: SWARM_ENGINE; default: auto, the fastest on this machine)`,
  );
}

/** Returns the settings of a `Compute` that come from the environment. */
export function environmentCompute({ SWARM_ENGINE }: Environment): ComputeInput {
  return { engine: SWARM_ENGINE || undefined, origin: 'SWARM_ENGINE' };
}

/** Returns the settings of a `Compute` that flags and the environment give. A flag overrides the environment. */
export function givenCompute(flags: ComputeInput, environment: Environment): ComputeInput {
  return mergeComputeInputs(flags, environmentCompute(environment));
}

/** Returns the progress text while an engine is measured. */
export function measuringLine(engine: EngineName): string {
  return `measuring ${engine}: about 2 seconds`;
}
