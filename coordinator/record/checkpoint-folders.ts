import { randomBytes } from 'node:crypto';
import { mkdir, open, readdir, readFile, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import {
  renameDurably,
  renameWithRetry,
  syncFolder,
  writeDurably,
  writeError,
} from '../../common/files/durable.ts';
import { linkOrCopy } from '../../common/files/file-system.ts';
import { CHAT_TEMPLATE_FILE } from '../../lora/adapter/adapter-template.ts';
import { ADAPTER_CONFIG_FILE, ADAPTER_WEIGHTS_FILE } from '../../lora/adapter/peft.ts';
import { encodePeftConfig } from '../../lora/adapter/peft-config.ts';
import type { FileBlobs } from '../../storage/blobs.ts';
import type { CheckpointFolders, CheckpointToWrite } from '../context.ts';

export const SIGNED_FILE = 'checkpoint.cbor';
/** File with the signed manifest of a job. If the file exists, the database has recorded the job. */
export const MANIFEST_FILE = 'manifest.cbor';
export const READABLE_FILE = 'checkpoint.json';

/**
 * Writes checkpoints to `<home>/checkpoints/<job>/<round>/`. Each folder has a PEFT adapter, the signed
 * checkpoint (CBOR), the checkpoint's content as JSON for people, and the job's chat template if the template
 * is not the base's own. If the file system supports hard links, the file of weights is a hard link to its
 * blob.
 */
export class FileCheckpointFolders implements CheckpointFolders {
  readonly #root: string;
  readonly #blobs: FileBlobs;

  constructor(options: { home: string }, deps: { blobs: FileBlobs }) {
    this.#root = join(options.home, 'checkpoints');
    this.#blobs = deps.blobs;
  }

  path(job: string, round: number): string {
    return join(this.#root, job, String(round).padStart(4, '0'));
  }

  async recordJob(name: string, manifest: Uint8Array): Promise<void> {
    const path = join(this.#root, name, MANIFEST_FILE);
    // A file that cannot be read is written again.
    const written = await readFile(path).catch(() => null);
    if (written?.equals(manifest)) return;
    await mkdir(join(this.#root, name), { recursive: true });
    await writeDurably(path, manifest);
  }

  async empty(job: string, round: number): Promise<void> {
    // The config is deleted too, because a folder without weights must not look like a PEFT adapter.
    for (const name of [ADAPTER_WEIGHTS_FILE, ADAPTER_CONFIG_FILE])
      await rm(join(this.path(job, round), name), { force: true });
  }

  /** Writes the folder of a checkpoint. @throws SwarmError STORE_FULL, WRITE_FAILED */
  async write(written: CheckpointToWrite): Promise<void> {
    const { manifest, layout, checkpoint, envelope } = written;
    const target = this.path(manifest.name, checkpoint.round);
    const parent = join(this.#root, manifest.name);
    const work = join(parent, `.${checkpoint.round}-${randomBytes(6).toString('hex')}`);
    try {
      await mkdir(parent, { recursive: true });
      await removeLeftovers(parent);
      await mkdir(work);
      await linkOrCopy(this.#blobs.path(checkpoint.adapter.digest), join(work, ADAPTER_WEIGHTS_FILE));
      const { lora, base } = manifest;
      const config = { lora, baseModelName: base.name, revision: base.revision ?? null };
      await writeSynced(join(work, ADAPTER_CONFIG_FILE), encodePeftConfig(config, layout));
      const { chatTemplate } = manifest.data;
      if (chatTemplate !== undefined) await writeSynced(join(work, CHAT_TEMPLATE_FILE), chatTemplate);
      await writeSynced(join(work, SIGNED_FILE), envelope);
      await writeSynced(join(work, READABLE_FILE), `${JSON.stringify(readable(written), null, 2)}\n`);
      await syncFolder(work);
      // A process that was killed may have left a folder that was never committed. A rename cannot replace a folder, so
      // move the old folder away first.
      if (await exists(target))
        await renameWithRetry(target, join(parent, `.old-${randomBytes(6).toString('hex')}`));
      await renameDurably(work, target);
      await removeLeftovers(parent);
    } catch (cause) {
      await rm(work, { recursive: true, force: true });
      throw writeError(cause, target);
    }
  }
}

function readable({ manifest, digest, checkpoint }: CheckpointToWrite): object {
  const { createdAt, job, ...rest } = checkpoint;
  return { name: manifest.name, job, digest, createdAt: new Date(createdAt).toISOString(), ...rest };
}

async function removeLeftovers(parent: string): Promise<void> {
  for (const name of await readdir(parent)) {
    if (name.startsWith('.')) await rm(join(parent, name), { recursive: true, force: true });
  }
}

async function writeSynced(path: string, content: Uint8Array | string): Promise<void> {
  const file = await open(path, 'wx');
  try {
    await file.writeFile(content);
    await file.sync();
  } finally {
    await file.close();
  }
}

async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}
