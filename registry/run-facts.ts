import { basename } from 'node:path';
import { CheckpointFolder, type RunState } from '../lora/finetune/checkpoints.ts';
import type { FinetuneResult } from '../lora/finetune/listener.ts';
import { nameSchema } from '../protocol/ids.ts';
import type { VersionManifest } from '../protocol/version-manifest.ts';
import { flatSettings } from './adapter-settings.ts';
import { registryError } from './errors.ts';
import { versionCurve } from './version-curve.ts';

/** Returns the state of a finished run from its output folder. @throws SwarmError RUN_MISSING */
export async function finishedRun(output: string): Promise<RunState> {
  const state = await new CheckpointFolder({ output, keep: 1 }).newest();
  if (state?.finished != null) return state;
  throw registryError('RUN_MISSING', `${output} holds no finished training run`, { output });
}

/** Returns the data digests, settings, metrics and held-out losses of a finished run, in the form of a version manifest. */
export function runFacts(state: RunState, result: FinetuneResult) {
  const { rows, heldOut } = state.settings;
  const { adapterStep, lossAfter } = result;
  const isKnown = lossAfter === null || state.losses.some(({ step }) => step === adapterStep);
  const losses = [...state.losses, ...(isKnown ? [] : [{ step: adapterStep, loss: lossAfter }])];
  return {
    data: [
      { name: 'train', digest: rows },
      ...(heldOut === null ? [] : [{ name: 'held-out', digest: heldOut }]),
    ],
    settings: settingsOf(state),
    metrics: metricsOf(result),
    curve: versionCurve(losses.map(({ step, loss }) => ({ at: step, loss }))),
  };
}

/** Makes a valid name for an adapter from the name of a folder. */
export function nameOf(folder: string): string {
  const name = basename(folder)
    .toLowerCase()
    .replaceAll(/[^a-z0-9._-]+/g, '-')
    .replace(/^[^a-z0-9]+/, '')
    .slice(0, 64);
  return nameSchema.safeParse(name).success ? name : 'adapter';
}

/** Returns the run's settings without paths, because paths are private and useless on another machine. */
function settingsOf({
  settings: { spec, engine, baseBits, precision },
}: RunState): VersionManifest['settings'] {
  const { train: _train, heldOut: _heldOut, template: _template, ...data } = spec.data;
  const { training, run, seed, preset } = spec;
  return flatSettings({ data, training, run, seed, preset, compute: { engine, baseBits, precision } });
}

function metricsOf(result: FinetuneResult): VersionManifest['metrics'] {
  const { lossAfter, lossBefore, loss, adapterStep, tokens, seconds } = result;
  const metrics = {
    heldOutLoss: lossAfter,
    heldOutLossBefore: lossBefore,
    trainLoss: loss,
    steps: adapterStep,
    tokens,
    seconds,
  };
  return Object.fromEntries(
    Object.entries(metrics).filter((entry): entry is [string, number] => entry[1] !== null),
  );
}
