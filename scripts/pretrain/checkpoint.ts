/** State of a pretraining run on disk, so that a killed run goes on where it was. */
import { mkdir, open, readFile, rename } from 'node:fs/promises';
import { join } from 'node:path';
import { deserialize, serialize } from 'node:v8';
import type { AdamWState } from '../../lora/train/adamw.ts';

export interface PretrainState {
  /** Index of the stage that `epoch` and `cursor` belong to. */
  stage: number;
  /** Position in the data: rows `cursor`… of epoch `epoch` come next. */
  epoch: number;
  cursor: number;
  /** Steps of the whole run, fixed when it started. */
  totalSteps: number;
  tokens: number;
  /** Training time so far, over all restarts. */
  seconds: number;
  /** Held-out figures of the untrained model. */
  bitsPerByteBefore: number;
  parameters: Float32Array[];
  optimizer: AdamWState;
}

const FILE = 'state.v8';

/** Written beside, fsynced, renamed: a kill leaves the old state or the new one. */
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

/** null when there is none. The file is this machine's own; it is not meant to be passed around. */
export async function loadState(dir: string): Promise<PretrainState | null> {
  try {
    return deserialize(await readFile(join(dir, FILE))) as PretrainState;
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return null;
    throw error;
  }
}
