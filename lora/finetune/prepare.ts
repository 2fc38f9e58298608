import { join } from 'node:path';
import { z } from 'zod';
import { commonError } from '../../common/common-errors.ts';
import { requireNoFile } from '../../common/files/folders.ts';
import { resolveCache } from '../../common/files/user-folders.ts';
import { checkOptions } from '../../common/schema-problems.ts';
import { type StartAdapter, startSettings } from '../adapter/start.ts';
import { openBase } from '../models/base/base-model.ts';
import { findBase } from '../models/base/find-base.ts';
import { type Compute, type ComputeInput, type ComputeOnDevices, parseCompute } from '../train/compute.ts';
import { resolveDevices } from '../train/devices/choose.ts';
import type { PresetName } from '../train/presets.ts';
import { CheckpointFolder, type RunState } from './checkpoints.ts';
import { finetuneError } from './errors.ts';
import type { FinetuneListener } from './listener.ts';
import { presetLayer } from './preset.ts';
import { absolutePaths } from './settings/absolute-paths.ts';
import { computeInputOf } from './settings/run-settings.ts';
import {
  type FinetuneSettings,
  mergeLayers,
  resolveSpec,
  shareMicroBatch,
  type TrainSpec,
} from './settings/settings.ts';
import { idleDevicesWarning, idleSettings } from './settings/warnings.ts';

/** Options of an estimate, and of a fine-tuning run. */
export interface PrepareOptions {
  /**
   * Settings. `base` and `data.train` are required, except with `resume`. Relative paths start from the current folder.
   */
  settings: FinetuneSettings;
  /** Folder of the adapter and the checkpoints; null for an estimate, which writes no files. */
  output: string | null;
  /**
   * Whether to continue from the newest checkpoint in `output`. If so, settings that are missing from `settings` are
   * taken from the checkpoint.
   * @default false
   */
  resume?: boolean | undefined;
  /**
   * Adapter to start from. If it is given, the LoRA settings and the chat template that are missing from `settings` are
   * taken from this adapter.
   * @default a new adapter
   */
  from?: StartAdapter | undefined;
  /** Settings for computing. They override the settings in the checkpoint of a resumed run. @default {} */
  compute?: ComputeInput | undefined;
  /** Settings for computing that are used where neither `compute` nor the checkpoint has a value. @default {} */
  computeDefaults?: ComputeInput | undefined;
  /**
   * Folder where converted weights, packed data and engine choices are kept between runs.
   * @default SWARM_CACHE, else lora-swarm in the user's cache folder
   */
  cacheDir?: string;
  /** The current time, in milliseconds since 1970. @default the time of the call */
  now?: number;
  /** Aborts the run or the estimate. @default never aborts */
  signal?: AbortSignal;
}

const optionsSchema = z.object({
  settings: z.object({}),
  output: z.string().nullable(),
  cacheDir: z.string().optional(),
});

type Defaults = Required<Pick<PrepareOptions, 'cacheDir' | 'now' | 'signal'>>;

/** Fills in the options that a caller may leave out. Paths become absolute. @throws SwarmError USAGE */
export function withDefaults<Options extends PrepareOptions>(options: Options): Options & Defaults {
  checkOptions(optionsSchema, options);
  return {
    ...options,
    settings: absolutePaths(options.settings, process.cwd()),
    cacheDir: options.cacheDir ?? resolveCache(),
    now: options.now ?? Date.now(),
    signal: options.signal ?? new AbortController().signal,
  };
}

/** Dependencies of a fine-tuning run. All have defaults. */
export interface PrepareDeps {
  /** Returns the folder of a base. @default fetches a base from the hub, as `findBase` in lora/models does */
  findBase?: (base: string) => Promise<string>;
}

/** A run whose settings are all decided, except gradient checkpointing. */
export interface PreparedRun {
  readonly spec: TrainSpec;
  /** Settings for computing, as the user asked for them. */
  readonly asked: Compute;
  /** The compute settings that the user asked for (`asked`), on the chosen devices. */
  readonly compute: ComputeOnDevices;
  /** The checkpoint to continue from; null to start from the beginning. */
  readonly newest: RunState | null;
}

/**
 * Merges settings, checkpoint and preset, and chooses the engine.
 * @param options as `withDefaults` returns them
 * @throws SwarmError USAGE, FOLDER_UNUSABLE, BASE_BITS, PRECISION, ENGINE_UNKNOWN, MODEL_*, DATA_*; errors of
 *   `findBase`; the signal's reason
 */
export async function prepareRun(
  options: PrepareOptions & Defaults,
  listener: FinetuneListener,
  deps: PrepareDeps = {},
): Promise<PreparedRun> {
  const { settings, output, resume = false, compute: input = {}, computeDefaults = {} } = options;
  const { cacheDir, now, signal } = options;
  if (output !== null) await requireNoFile(output);
  const onProgress = listener.onDownload?.bind(listener);
  const find = deps.findBase ?? ((base: string) => findBase({ base, cacheDir, signal, onProgress }));
  const newest =
    resume && output !== null
      ? await new CheckpointFolder({ output, keep: 1 }).newest((error) => listener.onWarning?.(error))
      : null;
  const given = mergeLayers(newest?.settings.spec ?? {}, settings);
  const { base, data } = given;
  const isComplete = base !== undefined && data?.train !== undefined;
  if (resume && output !== null && newest === null && !isComplete) {
    const message = `${output} has no checkpoint to continue from`;
    const next = 'check --output; for a new run, give --model and --data';
    throw finetuneError('NOTHING_TO_RESUME', message, { output }, { next });
  }
  if (base === undefined) throw missing('no base model is given', 'add --model MODEL');
  if (data?.train === undefined) throw missing('no training data is given', 'add --data PATH');
  const folder = await find(base);
  const start = options.from === undefined ? {} : await startSettings(options.from, await openBase(folder));
  const layer = mergeLayers(start, { ...given, base: folder });

  const before = newest === null ? {} : computeInputOf(newest.settings);
  const asked = parseCompute(input, before, computeDefaults);
  const choosing = {
    model: await openBase(folder),
    recordDir: join(cacheDir, 'engines'),
    now,
    signal,
    onProbe: listener.onProbe?.bind(listener),
  };
  const { compute, reason: chosen } = await resolveDevices(asked, choosing);
  const { devices } = compute;
  if (chosen !== null) listener.onEngine?.({ engine: devices[0].engine, reason: chosen });

  // The checkpoint of a resumed run already contains the settings that the preset chose, so a preset is only
  // applied to a new run.
  const preset = newest === null ? (layer.preset as PresetName | null | undefined) : null;
  const chosenLayer = preset ? await presetLayer(preset, layer, { compute, now, signal }) : null;
  if (preset && chosenLayer) listener.onPreset?.(preset, chosenLayer.choices);
  const filled = mergeLayers(chosenLayer?.layer ?? {}, layer);
  const { spec, reason } = shareMicroBatch(filled, resolveSpec(filled), devices.length);
  if (reason !== null) listener.onBatchShared?.(spec.training.microBatch, reason);
  for (const warning of idleSettings(settings, spec)) listener.onWarning?.(warning);
  const idle = idleDevicesWarning(spec.training, devices);
  if (idle !== null) listener.onWarning?.(idle);
  return { spec, asked, compute, newest };
}

function missing(message: string, next: string) {
  return commonError('USAGE', message, {}, { next });
}
