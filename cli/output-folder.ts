import { readdir } from 'node:fs/promises';
import { SwarmError } from '../protocol/errors.ts';

/** Nothing of the user's is overwritten unasked. @throws SwarmError OUTPUT_EXISTS */
export async function refuseExisting(dir: string, { force }: { force: boolean }): Promise<void> {
  const entries = await readdir(dir).catch((error: unknown) => {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return [];
    throw error;
  });
  if (entries.length > 0 && !force) {
    throw new SwarmError('OUTPUT_EXISTS', `${dir} exists and is not empty`, {
      dir,
      next: 'choose another folder with --output, or overwrite it with --force',
    });
  }
}
