import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { readCheckpoints } from '../../../../coordinator/client/read-checkpoints.ts';
import { SIGNED_FILE } from '../../../../coordinator/record/checkpoint-folders.ts';
import { ADAPTER_WEIGHTS_FILE } from '../../../../lora/adapter/peft.ts';
import { sha256 } from '../../../../protocol/cbor.ts';
import type { Checkpoint } from '../../../../protocol/messages.ts';
import { signMessage, verifyMessage } from '../../../../protocol/signing.ts';
import { temporaryFolder } from '../../../utils/folder.ts';
import { signerOf } from '../../../utils/swarm/signers.ts';
import { toyJob } from '../../../utils/virtual/toy-job.ts';

const signer = signerOf(1);
const { job, manifest } = toyJob(signer);
const weightsOf = (round: number): Uint8Array => Uint8Array.of(round);

/** Writes a checkpoint as its coordinator does. @returns its digest */
async function write(
  folder: string,
  round: number,
  parent: string | null,
  { by = signer, ...change }: Partial<Checkpoint> & { by?: typeof signer } = {},
): Promise<string> {
  const weights = weightsOf(round);
  const checkpoint: Checkpoint = {
    job,
    term: 1,
    round,
    base: manifest.base.digest,
    parent,
    adapter: { digest: sha256(weights), size: weights.byteLength },
    delta: null,
    contributors: [],
    metrics: {
      heldOutLoss: 1,
      heldOutTokens: 1,
      trainLoss: null,
      tokens: 0,
      seconds: 0,
      outerRate: 1,
      updateBytes: 0,
      drift: null,
    },
    createdAt: 0,
    ...change,
  };
  const path = join(folder, String(round).padStart(4, '0'));
  await mkdir(path, { recursive: true });
  const envelope = signMessage('checkpoint', checkpoint, by);
  await writeFile(join(path, SIGNED_FILE), envelope);
  await writeFile(join(path, ADAPTER_WEIGHTS_FILE), weights);
  return verifyMessage('checkpoint', envelope).digest;
}

it('checkpoints come in the order of their rounds, with author and digest; deleted weights are no fault', async () => {
  const folder = await temporaryFolder();
  const first = await write(folder, 0, null);
  const second = await write(folder, 9, first);
  const third = await write(folder, 10, second);
  await rm(join(folder, '0009', ADAPTER_WEIGHTS_FILE));
  const found = await readCheckpoints(folder);
  expect(found.map(({ digest }) => digest)).toEqual([first, second, third]);
  expect(found.map(({ kept }) => kept)).toEqual([true, false, true]);
  expect(new Set(found.map(({ author }) => author))).toEqual(new Set([signer.peerId]));
});

it.each<[string, Parameters<typeof write>[3]]>([
  ['another job', { job: 'ab'.repeat(32) }],
  ['another author', { by: signerOf(2) }],
  ['another parent', { parent: 'cd'.repeat(32) }],
  ['other weights', { adapter: { digest: 'ef'.repeat(32), size: 1 } }],
])('a checkpoint of %s is refused with its path', async (_name, change) => {
  const folder = await temporaryFolder();
  await write(folder, 1, await write(folder, 0, null), change);
  await expect(readCheckpoints(folder)).rejects.toMatchObject({
    code: 'CHECKPOINT_DAMAGED',
    values: { path: join(folder, '0001') },
  });
});

it('a checkpoint that is not signed is refused', async () => {
  const folder = await temporaryFolder();
  await write(folder, 0, null);
  await writeFile(join(folder, '0000', SIGNED_FILE), 'no message');
  await expect(readCheckpoints(folder)).rejects.toMatchObject({ code: 'MESSAGE_MALFORMED' });
});

it('reading checkpoints ends when the signal aborts', async () => {
  const folder = await temporaryFolder();
  await write(folder, 0, null);
  const controller = new AbortController();
  const running = readCheckpoints(folder, controller);
  controller.abort(new Error('enough'));
  await expect(running).rejects.toBe(controller.signal.reason);
});
