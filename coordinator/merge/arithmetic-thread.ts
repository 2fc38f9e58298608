/** Entry of the worker thread that merges, decodes and checks updates of large adapters. */
import { readFile } from 'node:fs/promises';
import { isSystemError } from '../../common/errors.ts';
import { serveCalls } from '../../common/workers/calls.ts';
import { parentChannel } from '../../common/workers/entry.ts';
import { decodeUpdate } from '../../lora/update/index.ts';
import { sha256 } from '../../protocol/cbor.ts';
import { storageError } from '../../storage/errors.ts';
import { mergeUpdates } from '../../verify/merge/merge-updates.ts';
import { coordinatorError } from '../errors.ts';
import { type ArithmeticMethods, changesValues } from './arithmetic.ts';

async function readBlob(path: string, digest: string): Promise<Uint8Array> {
  const bytes = await readFile(path).catch((cause: unknown) => {
    if (!isSystemError(cause, 'ENOENT')) throw cause;
    throw storageError('BLOB_MISSING', `blob ${digest} is not in the store`, { digest }, { cause });
  });
  if (sha256(bytes) === digest) return bytes;
  throw storageError('BLOB_CORRUPT', `blob ${digest} is damaged on disk`, { digest });
}

serveCalls<ArithmeticMethods>(
  {
    merge: ({ input, paths }) => mergeUpdates(input, (digest) => readBlob(paths[digest]!, digest)),
    decode: async ({ path, digest, layout, preset }) =>
      decodeUpdate(await readBlob(path, digest), layout, preset),
    check: ({ payload, layout, preset }) => changesValues(decodeUpdate(payload, layout, preset)),
  },
  {
    channel: parentChannel(),
    failed: (message, options) => coordinatorError('WORKER_FAILED', message, {}, options),
  },
);
