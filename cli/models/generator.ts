import { resolveCache } from '../../common/files/user-folders.ts';
import type { Generator } from '../../index.ts';
import type { BaseBits } from '../../lora/models/base/base-bits.ts';
import type { Context } from '../context.ts';
import { printNote } from '../print.ts';
import { baseFolder } from './base-model.ts';

export interface GeneratorFlags {
  readonly model: string;
  readonly threads?: number | undefined;
  readonly baseBits?: BaseBits | undefined;
  /** Maximum length of a sequence, in tokens. */
  readonly context?: number | undefined;
  /** Number of sequences that are computed at once. */
  readonly rows?: number;
  /** Number of sequences that may wait. */
  readonly waiting?: number;
  /** Bytes of memory for keys and values, and for the prefix cache. */
  readonly cacheBytes?: number;
}

/** Starts a generator, with progress and warnings on stderr. @throws SwarmError as `openGenerator` */
export async function openCliGenerator(
  context: Pick<Context, 'cwd' | 'environment' | 'signal' | 'clock' | 'stderr'>,
  { model, threads, baseBits, context: longest, ...limits }: GeneratorFlags,
): Promise<Generator> {
  const { openGenerator } = await import('../../index.ts');
  const { signal, cwd, environment } = context;
  return openGenerator(
    {
      base: model,
      compute: { threads, baseBits },
      cacheDir: resolveCache(environment, cwd),
      signal,
      onWarning: (text) => printNote(context, text),
      ...(longest !== undefined && { context: longest }),
      ...limits,
    },
    { findBase: (base) => baseFolder(context, base) },
  );
}
