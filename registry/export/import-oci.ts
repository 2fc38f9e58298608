import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { join } from 'node:path';
import type { z } from 'zod';
import { isSwarmError } from '../../common/errors.ts';
import { registryError } from '../errors.ts';
import type { Registry } from '../registry.ts';
import type { AdapterVersion } from '../version.ts';
import { ENVELOPE_FILE } from './export-folder.ts';
import {
  blobPath,
  type Descriptor,
  FILE_PATH,
  imageSchema,
  indexSchema,
  layoutSchema,
  OCI_JSON_BYTES,
  REF_NAME,
} from './oci-layout.ts';
import { recordFiles, requireFile } from './record-files.ts';

/** The image to import, and the name of its adapter in this registry. */
export interface ImportOptions {
  /** Folder of an OCI image layout. */
  readonly layout: string;
  /** Tag of the image to import, if the layout has several images. @default the only image */
  readonly image?: string | undefined;
  /**
   * Name of the adapter in this registry. If it differs from the name in the layout, the version gets a new manifest,
   * with the imported version as its parent. If it is the same, the version keeps its manifest, signature and digest.
   * @default the name in the layout
   */
  readonly name?: string | undefined;
  /** @default never aborts */
  readonly signal?: AbortSignal;
}

/**
 * Adds a version from an OCI image layout that `exportOci` wrote. Checks the signature of the version's
 * manifest, and the digest of every file.
 * @throws SwarmError OCI_INVALID if the folder is not such a layout; IMPORT_DAMAGED if a blob is missing or
 * damaged
 * @throws SwarmError SIGNATURE_INVALID, MESSAGE_*, STORE_FULL, WRITE_FAILED; the signal's reason
 */
export async function importOci(
  registry: Registry,
  { layout, image, name, signal = new AbortController().signal }: ImportOptions,
): Promise<{ version: AdapterVersion; created: boolean }> {
  await readJson(layout, 'oci-layout', layoutSchema);
  const { manifests } = await readJson(layout, 'index.json', indexSchema);
  const chosen = choose(manifests, image, layout);
  const { layers } = await readJson(layout, await checkedBlob(layout, chosen), imageSchema);
  const signed = layers.find(({ annotations }) => annotations?.[FILE_PATH] === ENVELOPE_FILE);
  if (signed === undefined) {
    const next =
      'unpack the image with another tool, and add its folder with "lora-swarm adapter add NAME DIR --model MODEL"';
    throw invalid(layout, 'the image has no signed manifest of a version', next);
  }
  const envelope = await readSmall(join(layout, await checkedBlob(layout, signed)), layout);
  return recordFiles(registry, {
    envelope,
    pathOf: ({ digest }) => join(layout, blobPath(digest)),
    name,
    reason: 'imported',
    signal,
  });
}

function choose(manifests: readonly Descriptor[], image: string | undefined, layout: string): Descriptor {
  const nameOf = ({ annotations }: Descriptor): string => annotations?.[REF_NAME] ?? '(untagged)';
  const found = image === undefined ? manifests : manifests.filter((entry) => nameOf(entry) === image);
  if (found.length === 1) return found[0]!;
  const known = manifests.map(nameOf).join(', ');
  throw invalid(
    layout,
    `it has ${found.length} images${image === undefined ? '' : ` with the tag "${image}"`}`,
    `choose one with --image: ${known}`,
  );
}

/** Returns the path of a blob inside the layout, after comparing its size and digest. */
async function checkedBlob(layout: string, { digest, size }: Descriptor): Promise<string> {
  const hex = digest.slice('sha256:'.length);
  await requireFile(join(layout, blobPath(hex)), { size, digest: hex });
  return blobPath(hex);
}

async function readJson<S extends z.ZodType>(layout: string, path: string, schema: S): Promise<z.infer<S>> {
  return parseOci(await readSmall(join(layout, path), layout), schema, { layout, path });
}

/**
 * Parses a JSON file of a layout.
 * @param where names of the layout and the file, for errors
 * @throws SwarmError OCI_INVALID
 */
export function parseOci<S extends z.ZodType>(
  bytes: Uint8Array,
  schema: S,
  { layout, path }: { layout: string; path: string },
): z.infer<S> {
  try {
    return schema.parse(JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes)));
  } catch (cause) {
    throw invalid(layout, `${path} is not valid`, undefined, cause);
  }
}

/**
 * Flags for opening a file of a layout. O_NOFOLLOW refuses a link, because a link could lead out of the layout. With
 * O_NONBLOCK, opening a pipe does not wait until a program writes to the pipe. Windows has neither flag. On every
 * system, `readSmall` also refuses anything that is not a regular file.
 */
const OPEN_FLAGS = constants.O_RDONLY | (constants.O_NOFOLLOW ?? 0) | (constants.O_NONBLOCK ?? 0);

async function readSmall(path: string, layout: string): Promise<Uint8Array> {
  let file: FileHandle | undefined;
  try {
    file = await open(path, OPEN_FLAGS);
    const stats = await file.stat();
    if (!stats.isFile()) throw invalid(layout, `${path} is not a regular file`);
    if (stats.size > OCI_JSON_BYTES)
      throw invalid(layout, `${path} has ${stats.size} bytes (maximum ${OCI_JSON_BYTES})`);
    // The buffer has one byte more than the file, so that a file that grows meanwhile is noticed.
    const buffer = new Uint8Array(stats.size + 1);
    let length = 0;
    for (let bytesRead = -1; bytesRead !== 0 && length < buffer.length; length += bytesRead)
      ({ bytesRead } = await file.read(buffer, length));
    if (length !== stats.size) throw invalid(layout, `${path} changed while it was being read`);
    return buffer.subarray(0, length);
  } catch (cause) {
    throw isSwarmError(cause) ? cause : invalid(layout, `${path} cannot be read`, undefined, cause);
  } finally {
    await file?.close();
  }
}

function invalid(layout: string, reason: string, next?: string, cause?: unknown) {
  return registryError(
    'OCI_INVALID',
    `${layout} is not a usable OCI image layout: ${reason}`,
    { layout, reason },
    { next, cause },
  );
}
