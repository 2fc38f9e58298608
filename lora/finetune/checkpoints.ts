/**
 * Checkpoints of `lora-swarm train`: folders `checkpoints/step-00000100` in the output, each with everything that a
 * resume needs. A checkpoint is written under a temporary name, synced, and then renamed, so a killed process leaves no
 * incomplete checkpoint.
 */

import { createHash } from 'node:crypto';
import { readdir, readFile, rm, rmdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { z } from 'zod';
import { commonError } from '../../common/common-errors.ts';
import { isSwarmError, isSystemError, type SwarmError } from '../../common/errors.ts';
import { renameDurably, renameWithRetry, writeDurably, writeError } from '../../common/files/durable.ts';
import { nullIfMissing } from '../../common/files/file-system.ts';
import { makeFolder } from '../../common/files/folders.ts';
import { shellWord } from '../../common/text.ts';
import { decodeAdapter } from '../adapter/codec.ts';
import type { AdapterLayout } from '../adapter/layout.ts';
import { ADAPTER_WEIGHTS_FILE, type AdapterToWrite, writePeftFolder } from '../adapter/peft.ts';
import type { AdamWState } from '../train/optimizer/adamw.ts';
import { decodeOptimizer, encodeOptimizer } from '../train/optimizer/optimizer-state.ts';
import { finetuneError } from './errors.ts';
import { runSettingsSchema } from './settings/run-settings.ts';

const FOLDER = 'checkpoints';
const OPTIMIZER_FILE = 'optimizer.bin';
const STATE_FILE = 'state.json';
/** Names of checkpoints have eight digits, so they sort like numbers up to a hundred million steps. */
const NAME = /^step-(\d{8})$/;
const LEFT_OVER = /^\.step-\d{8}\.(partial|removed)$/;

/** Maximum number of held-out losses that a run remembers, so that its state stays small. */
export const KEPT_LOSSES = 256;

const evaluationSchema = z.strictObject({ step: z.int().nonnegative(), loss: z.number() });

/** Progress of a run. Numbers that JSON cannot express, such as NaN, are null. */
export const runStateSchema = z.strictObject({
  schemaVersion: z.literal(1),
  /** Number of optimiser steps made. */
  step: z.int().nonnegative(),
  /** Number of rows trained on, over all epochs. The next step continues after these rows. */
  rows: z.int().nonnegative(),
  /** Number of supervised tokens trained on. */
  tokens: z.int().nonnegative(),
  /** Seconds spent on training steps. */
  seconds: z.number().nonnegative(),
  /** Loss of the last step. */
  loss: z.number().nullable(),
  /** Held-out loss before the first step. */
  lossBefore: z.number().nullable(),
  /** Held-out loss at this step; null if it was not measured. */
  heldOutLoss: z.number().nullable(),
  /** Held-out losses of the run, oldest first. If there were too many, some of them are left out. */
  losses: z.array(evaluationSchema).default([]),
  /** The measurement with the lowest held-out loss; null if the loss was not measured. */
  best: evaluationSchema.nullable(),
  /** Number of consecutive measurements without an improvement, for early stopping. */
  waited: z.int().nonnegative(),
  /** Reason why the run has finished; null while the run goes on. */
  finished: z.enum(['steps', 'early-stopping']).nullable(),
  /** Settings with which the run was last started or resumed. */
  settings: runSettingsSchema,
  /** SHA-256 digests of the other files of the checkpoint, by file name. */
  digests: z.record(z.string(), z.string()),
});
export type RunState = z.output<typeof runStateSchema>;

export interface TrainingState {
  /** Values of the adapter, in layout order. */
  readonly adapter: readonly Float32Array[];
  readonly optimizer: AdamWState;
  readonly state: Omit<RunState, 'digests' | 'schemaVersion'>;
}

export interface CheckpointFolderOptions {
  /** Folder of the run. */
  output: string;
  /** Number of newest checkpoints to keep, at least 1. The best checkpoint is always kept too. */
  keep: number;
}

export class CheckpointFolder {
  readonly path: string;
  readonly #keep: number;

  constructor({ output, keep }: CheckpointFolderOptions) {
    this.path = join(output, FOLDER);
    this.#keep = keep;
  }

  /** Writes a checkpoint durably and returns its folder. @throws SwarmError STORE_FULL, WRITE_FAILED */
  async write(
    { adapter, optimizer, state }: TrainingState,
    about: Omit<AdapterToWrite, 'tensors'>,
  ): Promise<string> {
    await makeFolder(this.path);
    const final = this.#folderOf(state.step);
    const partial = join(this.path, `.${nameOf(state.step)}.partial`);
    try {
      await rm(partial, { recursive: true, force: true });
      await makeFolder(partial);
      await writePeftFolder(partial, { ...about, tensors: adapter });
      await writeDurably(join(partial, OPTIMIZER_FILE), encodeOptimizer(optimizer));
      const digests = await digestsOf(partial);
      const text = `${JSON.stringify({ schemaVersion: 1, ...state, digests }, null, 2)}\n`;
      const there = await digestsOf(final).catch(() => null);
      if (there !== null && isDeepStrictEqual(there, digests)) {
        // A resumed run has reached this step again. The existing checkpoint differs only in its state file.
        await writeDurably(join(final, STATE_FILE), text);
        await rm(partial, { recursive: true, force: true });
      } else {
        await writeDurably(join(partial, STATE_FILE), text);
        await this.#remove(nameOf(state.step));
        await renameDurably(partial, final);
      }
    } catch (cause) {
      // An incomplete checkpoint must not fill the disk.
      await rm(partial, { recursive: true, force: true }).catch(() => {});
      const error = writeError(cause, final);
      if (!isSwarmError(error, 'STORE_FULL')) throw error;
      const next = `free disk space, then continue with: lora-swarm train --resume --output ${shellWord(dirname(this.path))}`;
      const message = `no disk space left for the checkpoint ${final}`;
      throw commonError('STORE_FULL', message, { path: final }, { next, cause });
    }
    await this.#prune(state.best?.step ?? null);
    return final;
  }

  /** Lists the steps of the checkpoints, newest first. @throws the system's error if the folder cannot be read */
  async steps(): Promise<number[]> {
    const steps = (await this.#names()).flatMap((name) =>
      NAME.test(name) ? [Number(NAME.exec(name)![1])] : [],
    );
    return steps.sort((a, b) => b - a);
  }

  /**
   * Returns the state of the newest intact checkpoint; null if there is none.
   * @param onDamaged called for each newer checkpoint that is damaged
   */
  async newest(onDamaged: (error: SwarmError) => void = () => {}): Promise<RunState | null> {
    for (const step of await this.steps()) {
      try {
        return await this.#state(step);
      } catch (error) {
        if (!isSwarmError(error, 'TRAIN_CHECKPOINT')) throw error;
        onDamaged(error);
      }
    }
    return null;
  }

  /**
   * Reads the adapter and the optimiser's moments from the checkpoint of a step.
   * @throws SwarmError TRAIN_CHECKPOINT, ADAPTER_*, OPTIMIZER_STATE
   */
  async load(step: number, layout: AdapterLayout): Promise<Pick<TrainingState, 'adapter' | 'optimizer'>> {
    // Checks the digests again, because the best checkpoint may be old and may have been damaged since it was written.
    await this.#state(step);
    const dir = this.#folderOf(step);
    return {
      adapter: decodeAdapter(await readFile(join(dir, ADAPTER_WEIGHTS_FILE)), layout),
      optimizer: decodeOptimizer(await readFile(join(dir, OPTIMIZER_FILE)), layout),
    };
  }

  /** Deletes all checkpoints. Keeps everything else in the folder, because it may be the user's. */
  async clear(): Promise<void> {
    for (const step of await this.steps()) await this.#remove(nameOf(step));
    await this.#tidy();
    await rmdir(this.path).catch(() => {});
  }

  #folderOf(step: number): string {
    return join(this.path, nameOf(step));
  }

  async #state(step: number): Promise<RunState> {
    const dir = this.#folderOf(step);
    const damaged = (reason: string, cause?: unknown) =>
      finetuneError(
        'TRAIN_CHECKPOINT',
        `the checkpoint ${dir} is damaged: ${reason}`,
        { dir, reason },
        { cause },
      );
    let state: RunState;
    try {
      state = runStateSchema.parse(JSON.parse(await readFile(join(dir, STATE_FILE), 'utf8')));
    } catch (cause) {
      throw damaged(`${STATE_FILE} cannot be read`, cause);
    }
    const found = await digestsOf(dir).catch(() => ({}) as Record<string, string>);
    const other = Object.keys(state.digests).find((name) => found[name] !== state.digests[name]);
    if (other !== undefined) throw damaged(`${other} does not match its digest`);
    return state;
  }

  async #prune(best: number | null): Promise<void> {
    const steps = await this.steps();
    for (const step of steps.slice(this.#keep)) if (step !== best) await this.#remove(nameOf(step));
    await this.#tidy();
  }

  /** Returns the names of the files and folders in the folder; an empty list if the folder does not exist. */
  async #names(): Promise<string[]> {
    return (await readdir(this.path).catch(nullIfMissing)) ?? [];
  }

  /** Deletes the incomplete folders of processes that were killed while they wrote or deleted a checkpoint. */
  async #tidy(): Promise<void> {
    for (const name of await this.#names()) {
      if (LEFT_OVER.test(name)) await rm(join(this.path, name), { recursive: true, force: true });
    }
  }

  /** Deletes a checkpoint. Renames its folder first, because a half-deleted folder must not look like a checkpoint. */
  async #remove(name: string): Promise<void> {
    const going = join(this.path, `.${name}.removed`);
    await rm(going, { recursive: true, force: true });
    try {
      await renameWithRetry(join(this.path, name), going);
    } catch (error) {
      if (isSystemError(error, 'ENOENT')) return;
      throw error;
    }
    await rm(going, { recursive: true, force: true });
  }
}

function nameOf(step: number): string {
  return `step-${String(step).padStart(8, '0')}`;
}

async function digestsOf(dir: string): Promise<Record<string, string>> {
  const digests: Record<string, string> = {};
  for (const name of [ADAPTER_WEIGHTS_FILE, OPTIMIZER_FILE]) {
    const bytes = await readFile(join(dir, name));
    digests[name] = createHash('sha256').update(bytes).digest('hex');
  }
  return digests;
}
