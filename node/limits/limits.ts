import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { isSystemError } from '../../common/errors.ts';
import { writeDurably } from '../../common/files/durable.ts';
import type { KeptLimits } from '../../protocol/api/node.ts';
import { nodeError } from '../errors.ts';
import { areHours } from './hours.ts';

/**
 * Lowest bandwidth limit that an owner can set, in bytes per second. At this rate, even three ranges of blobs at once, of
 * 1 MiB each, arrive within 64 s, the time limit of a range.
 */
export const LEAST_RATE = 100_000;

const bytes = z.number().min(0);
const rate = z.number().min(LEAST_RATE);

/** Changes of limits. The value null restores the default. */
export type LimitChanges = { readonly [Name in keyof KeptLimits]: KeptLimits[Name] | null };

const values = {
  threads: z.int().min(1).max(1024),
  maxBaseBytes: bytes,
  maxDiskBytes: bytes,
  maxMemoryBytes: bytes,
  polite: z.boolean(),
  hours: z.string().max(256).refine(areHours, 'must be hours such as "22:00-07:00"'),
  maxUpload: rate,
  maxDownload: rate,
  maxTraffic: bytes,
};

export const limitsSchema = z.strictObject(values).partial() satisfies z.ZodType<KeptLimits>;

export const changesSchema = z
  .strictObject({
    threads: values.threads.nullable(),
    maxBaseBytes: bytes.nullable(),
    maxDiskBytes: bytes.nullable(),
    maxMemoryBytes: bytes.nullable(),
    polite: values.polite.nullable(),
    hours: values.hours.nullable(),
    maxUpload: rate.nullable(),
    maxDownload: rate.nullable(),
    maxTraffic: bytes.nullable(),
  })
  .partial() satisfies z.ZodType<LimitChanges>;

const fileSchema = z.strictObject({
  version: z.literal(1),
  limits: limitsSchema,
  /** Time at which the owner's pause ends, in milliseconds since 1970; `resume` if the owner must end it. */
  pausedUntil: z.union([z.number(), z.literal('resume')]).nullable(),
});

export type PausedUntil = z.infer<typeof fileSchema>['pausedUntil'];

/** The owner's limits and pause, which the home of a node keeps in the file `limits.json`. */
export class LimitsFile {
  readonly #path: string;
  #kept: z.infer<typeof fileSchema>;

  private constructor(path: string, kept: z.infer<typeof fileSchema>) {
    this.#path = path;
    this.#kept = kept;
  }

  /** @throws SwarmError LIMITS_DAMAGED if the file cannot be parsed, because a limit must never be ignored silently */
  static async open(home: string): Promise<LimitsFile> {
    const path = join(home, 'limits.json');
    let text: string;
    try {
      text = await readFile(path, 'utf8');
    } catch (error) {
      if (!isSystemError(error, 'ENOENT')) throw error;
      return new LimitsFile(path, { version: 1, limits: {}, pausedUntil: null });
    }
    try {
      return new LimitsFile(path, fileSchema.parse(JSON.parse(text)));
    } catch (cause) {
      const message = `the limits of this node in ${path} cannot be read`;
      throw nodeError('LIMITS_DAMAGED', message, { path }, { cause });
    }
  }

  get limits(): KeptLimits {
    return this.#kept.limits;
  }

  get pausedUntil(): PausedUntil {
    return this.#kept.pausedUntil;
  }

  change(changes: LimitChanges): Promise<void> {
    const changed = Object.entries({ ...this.#kept.limits, ...changes }).filter(
      ([, value]) => value !== null,
    );
    return this.#write({ ...this.#kept, limits: limitsSchema.parse(Object.fromEntries(changed)) });
  }

  keepPause(pausedUntil: PausedUntil): Promise<void> {
    return this.#write({ ...this.#kept, pausedUntil });
  }

  async #write(kept: z.infer<typeof fileSchema>): Promise<void> {
    this.#kept = kept;
    await writeDurably(this.#path, `${JSON.stringify(kept, null, 2)}\n`, { mode: 0o600 });
  }
}
