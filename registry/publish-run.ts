import { basename } from 'node:path';
import { CheckpointFolder, type RunState } from '../lora/finetune/checkpoints.ts';
import type { FinetuneResult } from '../lora/finetune/listener.ts';
import { nameSchema } from '../protocol/ids.ts';
import type { VersionManifest } from '../protocol/version-manifest.ts';
import { flatSettings } from './adapter-settings.ts';
import { addFolder } from './add-folder.ts';
import { registryError } from './errors.ts';
import { LATEST, requireNewName } from './reference.ts';
import type { Registry } from './registry.ts';
import type { AdapterVersion } from './version.ts';
import { versionCurve } from './version-curve.ts';

/** The run to publish, and the name of its adapter. */
export interface PublishRunOptions {
  /** Output folder of the run. */
  readonly output: string;
  /** Result of the run. */
  readonly result: FinetuneResult;
  /** Name of the adapter. @default the name of the output folder */
  readonly name?: string | undefined;
  /** Folder that caches the digests of bases. @default no cache */
  readonly cacheDir?: string;
  /** @default never aborts */
  readonly signal?: AbortSignal;
}

/**
 * Adds the adapter of a finished training run as a version, with the run's settings, the digests of its data, its losses,
 * and the version that it started from.
 * @throws SwarmError RUN_MISSING if the folder has no finished run; VERSION_NAME; the errors of `addFolder`
 */
export async function publishRun(
  registry: Registry,
  { output, result, name = nameOf(output), cacheDir, signal }: PublishRunOptions,
): Promise<{ version: AdapterVersion; created: boolean }> {
  const state = await finishedRun(output);
  const { settings } = state;
  return addFolder(registry, {
    name,
    folder: output,
    base: settings.spec.base,
    parents: startOf(settings.start, 'train', registry),
    ...runFacts(state, result),
    tags: [LATEST],
    reason: 'lora-swarm train',
    ...(cacheDir !== undefined && { cacheDir }),
    ...(signal && { signal }),
  });
}

/** Checks the name that `publishRun` will use, so that a run can be refused before it begins. @throws SwarmError VERSION_NAME */
export function requireRunName({
  output,
  name = nameOf(output),
}: Pick<PublishRunOptions, 'output' | 'name'>): void {
  requireNewName(name);
}

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

/**
 * Returns the version that training started from, as an entry for the manifest's `parents`. Returns no entry if the
 * registry does not know the version.
 * @param start `version`: digest of the version, null if it is not known. `digest`: digest of the adapter's weight file
 */
export function startOf(
  start: { version: string | null; digest: string } | null,
  method: string,
  registry: Registry,
): VersionManifest['parents'] {
  if (start === null) return [];
  const named = start.version === null ? null : registry.byDigest(start.version);
  const parent = named ?? registry.withFile(start.digest);
  return parent === null ? [] : [{ digest: parent.digest, label: parent.label, method, weight: 1 }];
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
