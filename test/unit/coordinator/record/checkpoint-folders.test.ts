import { mkdir, readdir, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { systemClock } from '../../../../common/time/system-clock.ts';
import type { CheckpointToWrite } from '../../../../coordinator/context.ts';
import {
  FileCheckpointFolders,
  READABLE_FILE,
  SIGNED_FILE,
} from '../../../../coordinator/record/checkpoint-folders.ts';
import { ADAPTER_CONFIG_FILE, ADAPTER_WEIGHTS_FILE } from '../../../../lora/adapter/peft.ts';
import { sha256 } from '../../../../protocol/cbor.ts';
import { signMessage, verifyMessage } from '../../../../protocol/signing.ts';
import { FileBlobStore } from '../../../../storage/blob-store.ts';
import { temporaryFolder } from '../../../utils/folder.ts';
import { toyJob } from '../../../utils/virtual/toy-job.ts';
import { COORDINATOR } from '../world.ts';

async function setUp() {
  const home = await temporaryFolder();
  const blobs = await FileBlobStore.open({ home }, { clock: systemClock });
  const { job, manifest, layout, initial } = toyJob(COORDINATOR);
  await blobs.put(initial);
  const checkpoint = {
    job,
    term: 1,
    round: 3,
    base: manifest.base.digest,
    parent: 'ab'.repeat(32),
    adapter: manifest.adapter.initial,
    delta: null,
    contributors: [],
    metrics: {
      heldOutLoss: 1,
      heldOutTokens: 1,
      trainLoss: 1,
      tokens: 1,
      seconds: 1,
      outerRate: 1,
      updateBytes: 1,
      drift: null,
    },
    createdAt: 0,
  };
  const envelope = signMessage('checkpoint', checkpoint, COORDINATOR);
  const { digest } = verifyMessage('checkpoint', envelope);
  const written: CheckpointToWrite = { manifest, layout, digest, checkpoint, envelope };
  return { home, blobs, written, initial, folders: new FileCheckpointFolders({ home }, { blobs }) };
}

describe('FileCheckpointFolders', () => {
  test('writes the chat template of a job that does not use the template of its base', async () => {
    const { written, folders } = await setUp();
    const { manifest } = written;
    const chatTemplate = '{{ messages }}';
    await folders.write({ ...written, manifest: { ...manifest, data: { ...manifest.data, chatTemplate } } });
    expect(await readFile(join(folders.path('toy', 3), 'chat_template.jinja'), 'utf8')).toBe(chatTemplate);
  });

  test('writes a PEFT folder with the signed checkpoint, and links the weights to their blob', async () => {
    const { home, blobs, written, initial, folders } = await setUp();
    await folders.write(written);
    const path = folders.path('toy', 3);
    expect(path).toBe(join(home, 'checkpoints', 'toy', '0003'));
    const files = [ADAPTER_CONFIG_FILE, ADAPTER_WEIGHTS_FILE, SIGNED_FILE, READABLE_FILE].sort();
    expect(await readdir(path)).toEqual(files);
    const weights = join(path, ADAPTER_WEIGHTS_FILE);
    expect(sha256(await readFile(weights))).toBe(written.checkpoint.adapter.digest);
    const link = await stat(weights);
    expect(link.ino).toBe((await stat(blobs.path(sha256(initial)))).ino);
    const signed = verifyMessage('checkpoint', await readFile(join(path, SIGNED_FILE)));
    expect(signed).toMatchObject({
      author: COORDINATOR.peerId,
      digest: written.digest,
      message: { round: 3 },
    });
    const config = JSON.parse(await readFile(join(path, ADAPTER_CONFIG_FILE), 'utf8'));
    expect(config).toMatchObject({ peft_type: 'LORA', r: 2, lora_alpha: 4, target_modules: ['q_proj'] });
    const readable = JSON.parse(await readFile(join(path, READABLE_FILE), 'utf8'));
    expect(readable).toMatchObject({ name: 'toy', digest: written.digest, round: 3 });
  });

  test('replaces the folder of a killed attempt, and deletes its leftovers', async () => {
    const { home, written, folders } = await setUp();
    const parent = join(home, 'checkpoints', 'toy');
    for (const folder of ['0003', '.3-half', '.old-0002']) {
      await mkdir(join(parent, folder), { recursive: true });
      await writeFile(join(parent, folder, 'rest'), 'x');
    }
    await folders.write(written);
    expect(await readdir(parent)).toEqual(['0003']);
    expect(await readdir(join(parent, '0003'))).not.toContain('rest');
    await folders.write(written);
    expect(await readdir(parent)).toEqual(['0003']);
  });

  test('leaves nothing of a failed attempt', async () => {
    const { home, blobs, written, folders } = await setUp();
    await blobs.delete(written.checkpoint.adapter.digest);
    await expect(folders.write(written)).rejects.toMatchObject({ code: 'WRITE_FAILED' });
    expect(await readdir(join(home, 'checkpoints', 'toy'))).toEqual([]);
  });

  test('deletes the weights in a folder, and keeps the signed files', async () => {
    const { written, folders } = await setUp();
    await folders.write(written);
    for (let again = 0; again < 2; again++) {
      await folders.empty('toy', 3);
      expect(await readdir(folders.path('toy', 3))).toEqual([SIGNED_FILE, READABLE_FILE]);
    }
    await folders.empty('toy', 4);
  });
});
