/** The state of a pretraining run on disk. A killed run continues from it. */
import { mkdir, open, readFile, rename } from 'node:fs/promises';
import { join } from 'node:path';
import { deserialize, serialize } from 'node:v8';
import { nullIfMissing } from '../../common/files/file-system.ts';
import type { AdamWState } from '../../lora/train/optimizer/adamw.ts';

export interface PretrainState {
  /** Index of the current stage. */
  stage: number;
  /** Position in the data: the next row is row `cursor` of this epoch. */
  epoch: number;
  cursor: number;
  /** Number of steps of the whole run, which is fixed when the run starts. */
  totalSteps: number;
  tokens: number;
  /** Training time so far, including earlier processes. */
  seconds: number;
  /** Held-out bits per byte of the untrained model. */
  bitsPerByteBefore: number;
  parameters: Float32Array[];
  optimizer: AdamWState;
}

const FILE = 'state.v8';

/**
 * Writes a temporary file, syncs it to disk and renames it. If the process is killed, either the old or the
 * new state remains.
 */
export async function saveState(dir: string, state: PretrainState): Promise<void> {
  await mkdir(dir, { recursive: true });
  const temporary = join(dir, `${FILE}.tmp`);
  const file = await open(temporary, 'w');
  try {
    await file.writeFile(serialize(state));
    await file.sync();
  } finally {
    await file.close();
  }
  await rename(temporary, join(dir, FILE));
}

/**
 * Loads the state that an earlier run saved. Returns null if there is none. The format can run code, so never
 * load a file from another machine.
 */
export async function loadState(dir: string): Promise<PretrainState | null> {
  const bytes = await readFile(join(dir, FILE)).catch(nullIfMissing);
  return bytes === null ? null : (deserialize(bytes) as PretrainState);
}
