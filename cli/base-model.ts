import { formatBytes } from '../common/text.ts';
import type { Context } from './context.ts';
import { ProgressLine } from './print.ts';

/** For the help of options that take a base model. */
export const BASE_MODEL = 'a Hugging Face folder, or ORG/NAME[@REVISION] on the hub';

/** Shortest time in milliseconds over which a download speed is measured. */
const MIN_SPEED_MS = 500;

/**
 * Returns the folder of a base model, with the progress of a download on stderr.
 * @throws SwarmError as `findBase`
 */
export async function baseFolder(
  context: Pick<Context, 'cwd' | 'environment' | 'signal' | 'clock' | 'stderr'>,
  base: string,
): Promise<string> {
  const { cwd, environment, signal, clock, stderr } = context;
  const { findBase } = await import('../lora/models/find-base.ts');
  const line = new ProgressLine(context);
  const download = new DownloadSpeed();
  try {
    return await findBase(
      {
        base,
        folder: cwd,
        environment,
        signal,
        onProgress: ({ file, done, total }) => {
          const speed = download.at(clock.now(), done);
          line.update(
            `${file}  ${formatBytes(done)} of ${formatBytes(total)}${speed === null ? '' : `  ${formatBytes(speed)}/s`}`,
          );
        },
        onNote: (note) => {
          line.clear();
          stderr.write(`swarm: ${note}\n`);
        },
      },
      { fetch, clock },
    );
  } finally {
    line.clear();
  }
}

/** Measures bytes per second since the first report. The bytes of that report were there before. */
class DownloadSpeed {
  #first: { at: number; bytes: number } | null = null;

  /** @returns null until there is enough time to measure over */
  at(now: number, bytes: number): number | null {
    this.#first ??= { at: now, bytes };
    const elapsed = now - this.#first.at;
    // A file that starts again from zero takes bytes back.
    return elapsed < MIN_SPEED_MS
      ? null
      : Math.max(0, Math.round((1000 * (bytes - this.#first.bytes)) / elapsed));
  }
}
