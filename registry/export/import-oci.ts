import { lstat, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { z } from 'zod';
import { isSwarmError } from '../../common/errors.ts';
import { verifyMessage } from '../../protocol/signing.ts';
import type { VersionManifest } from '../../protocol/version-manifest.ts';
import { registryError } from '../errors.ts';
import { digestOfFile } from '../folder-views.ts';
import { LATEST } from '../reference.ts';
import type { Registry } from '../registry.ts';
import type { AdapterVersion } from '../version.ts';
import {
  blobPath,
  type Descriptor,
  ENVELOPE_FILE,
  FILE_PATH,
  imageSchema,
  indexSchema,
  layoutSchema,
  OCI_JSON_BYTES,
  REF_NAME,
} from './oci-layout.ts';

export interface ImportOptions {
  /** Folder of an OCI image layout. */
  readonly layout: string;
  /** Tag of the image, if the layout has several. @default the only image */
  readonly image?: string | undefined;
  /**
   * Name of the adapter here. With a name of its own, the version gets a new manifest, which names the imported one as its
   * parent. @default the name in the layout; the version then keeps its manifest, its signature and its digest
   */
  readonly name?: string | undefined;
  /** @default never aborts */
  readonly signal?: AbortSignal;
}

/**
 * Adds a version from an OCI image layout that `exportOci` wrote. Checks the signature of its manifest, and the digest of every
 * file.
 * @throws SwarmError OCI_INVALID the folder is no such layout, or a blob is missing or damaged
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
      'unpack the image with another tool, and add its folder with "swarm adapter add NAME DIR --model MODEL"';
    throw invalid(layout, 'the image has no signed manifest of a version', next);
  }
  const envelope = await readSmall(join(layout, await checkedBlob(layout, signed)), layout);
  const { message: manifest, digest } = verifyMessage('version-manifest', envelope);
  const held = manifest.files.map((file) => file.digest);
  const hold = registry.holds.hold(held, registry.clock.now());
  try {
    for (const file of manifest.files) {
      const path = await checkedBlob(layout, { digest: `sha256:${file.digest}`, size: file.size });
      await registry.blobs.importFile(join(layout, path), { signal });
    }
    const own = name === undefined || name === manifest.name;
    return await registry.record({
      envelope: own ? envelope : await registry.sign(renamed(manifest, digest, name, registry.clock.now())),
      tags: [LATEST],
      reason: 'imported',
    });
  } finally {
    registry.holds.release(hold);
  }
}

function renamed(
  manifest: VersionManifest,
  digest: string,
  name: string,
  createdAt: number,
): VersionManifest {
  const parent = { digest, label: manifest.name, method: 'import', weight: 1 };
  return { ...manifest, name, parents: [parent], createdAt };
}

function choose(manifests: readonly Descriptor[], image: string | undefined, layout: string): Descriptor {
  const nameOf = ({ annotations }: Descriptor): string => annotations?.[REF_NAME] ?? '(untagged)';
  const found = image === undefined ? manifests : manifests.filter((entry) => nameOf(entry) === image);
  if (found.length === 1) return found[0]!;
  const known = manifests.map(nameOf).join(', ');
  throw invalid(
    layout,
    `it has ${found.length} images${image === undefined ? '' : ` "${image}"`}`,
    `choose one with --image: ${known}`,
  );
}

/** Returns the path of a blob inside the layout, after comparing its size and digest. */
async function checkedBlob(
  layout: string,
  { digest, size }: Pick<Descriptor, 'digest' | 'size'>,
): Promise<string> {
  const hex = digest.slice('sha256:'.length);
  const path = blobPath(hex);
  const entry = await lstat(join(layout, path)).catch(() => null);
  // A link could lead out of the layout, and a pipe would never end.
  if (
    entry === null ||
    !entry.isFile() ||
    entry.size !== size ||
    (await digestOfFile(join(layout, path))) !== hex
  )
    throw invalid(layout, `the blob ${digest} is missing or damaged`);
  return path;
}

async function readJson<S extends z.ZodType>(layout: string, path: string, schema: S): Promise<z.infer<S>> {
  const bytes = await readSmall(join(layout, path), layout);
  try {
    return schema.parse(JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes)));
  } catch (cause) {
    throw invalid(layout, `${path} is not valid`, undefined, cause);
  }
}

async function readSmall(path: string, layout: string): Promise<Uint8Array> {
  try {
    const { size } = await lstat(path);
    if (size > OCI_JSON_BYTES) throw invalid(layout, `${path} has ${size} bytes (limit ${OCI_JSON_BYTES})`);
    return new Uint8Array(await readFile(path));
  } catch (cause) {
    throw isSwarmError(cause) ? cause : invalid(layout, `${path} cannot be read`, undefined, cause);
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
