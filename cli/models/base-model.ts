import { formatBytes } from '../../common/text.ts';
import type { Clock } from '../../common/time/clock.ts';
import type { FetchProgress } from '../../index.ts';
import type { Context } from '../context.ts';
import { ProgressLine, printNote } from '../print.ts';

/** Help text of options that take a base model. */
export const BASE_MODEL =
  'a folder in Hugging Face format, a GGUF file, or ORG/NAME[@REVISION] to download from the hub';

/** Minimum time in milliseconds over which a download speed is measured. */
const MIN_SPEED_MS = 500;

/**
 * Returns the folder of a base model. Downloads or converts the model if necessary, with progress on stderr.
 * @throws SwarmError as `findBase`
 */
export async function baseFolder(
  context: Pick<Context, 'cwd' | 'environment' | 'signal' | 'clock' | 'stderr'>,
  base: string,
): Promise<string> {
  const { cwd, environment, signal, clock } = context;
  const { findBase } = await import('../../lora/models/base/find-base.ts');
  const line = new ProgressLine(context);
  const textOf = downloadTexts(clock);
  try {
    return await findBase(
      {
        base,
        folder: cwd,
        environment,
        signal,
        onProgress: (progress) => line.update(textOf(progress)),
        onNote: (note) => {
          line.clear();
          printNote(context, note);
        },
      },
      { fetch, clock },
    );
  } finally {
    line.clear();
  }
}

/** Returns a function that formats the progress of a download, with its speed. */
export function downloadTexts(clock: Pick<Clock, 'now'>): (progress: FetchProgress) => string {
  const download = new DownloadSpeed();
  return ({ file, done, total }) => {
    const speed = download.at(clock.now(), done);
    return `${file}  ${formatBytes(done)} of ${formatBytes(total)}${speed === null ? '' : `  ${formatBytes(speed)}/s`}`;
  };
}

/**
 * Measures the speed of a download, from its first progress report on. Bytes that were present at the first report do
 * not count, because they may come from an earlier, interrupted download.
 */
class DownloadSpeed {
  #first: { at: number; bytes: number } | null = null;

  /**
   * @param now current time in milliseconds
   * @param bytes bytes of the file so far
   * @returns bytes per second; null in the first MIN_SPEED_MS
   */
  at(now: number, bytes: number): number | null {
    this.#first ??= { at: now, bytes };
    const elapsed = now - this.#first.at;
    // A download that starts again from zero has fewer bytes than at the first report, so its speed would be
    // negative.
    return elapsed < MIN_SPEED_MS
      ? null
      : Math.max(0, Math.round((1000 * (bytes - this.#first.bytes)) / elapsed));
  }
}
