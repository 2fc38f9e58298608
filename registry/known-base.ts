import { basename } from 'node:path';
import { adapterError } from '../lora/adapter/errors.ts';
import { baseDigest, type DescribeOptions, describeBase } from '../lora/models/base/base-identity.ts';
import { hubOrigin } from '../lora/models/hub/reference.ts';
import type { VersionManifest } from '../protocol/version-manifest.ts';

/** The base of a version, and where it is on this machine. */
export interface KnownBase {
  readonly base: VersionManifest['base'];
  /** Folder of the base; null if only its digest is known. */
  readonly folder: string | null;
}

/** Files of a base that decide how text becomes tokens. */
export const TOKENIZER_FILES: ReadonlySet<string> = new Set([
  'tokenizer.json',
  'tokenizer_config.json',
  'special_tokens_map.json',
  'chat_template.jinja',
]);

/** Computes the identity of the base in a folder. @throws the errors of `describeBase` */
export async function knownBase(folder: string, options: DescribeOptions = {}): Promise<KnownBase> {
  const { digest, files } = await describeBase(folder, options);
  const origin = hubOrigin(folder);
  const tokenizer = baseDigest(files.filter(({ path }) => TOKENIZER_FILES.has(path)));
  // A daemon keeps a base in a folder that is named by the digest. Such a folder does not have the base's name.
  const folderName = basename(folder);
  const name = origin?.name ?? (folderName === digest ? null : folderName);
  return { base: { name, revision: origin?.revision ?? null, digest, tokenizer }, folder };
}

/** The digest of a base, and its name on the hub or the name of its folder. */
interface NamedBase {
  readonly digest: string;
  readonly name: string | null;
  readonly revision?: string | null | undefined;
}

/**
 * Checks that an adapter was made for a base.
 * @param label name of the adapter for the message
 * @param base digest of the base; its folder or name, which the message shows
 * @throws SwarmError ADAPTER_BASE (values: expected, found) if the adapter was made for another base
 */
export function requireSameBase(
  { label, manifest }: { label: string; manifest: { base: NamedBase } },
  base: { digest: string; where: string },
): void {
  const { digest: expected, name, revision = null } = manifest.base;
  if (expected === base.digest) return;
  const named = name === null ? null : `${name}${revision === null ? '' : `@${revision}`}`;
  throw adapterError(
    'ADAPTER_BASE',
    `${label} was trained on the base with the digest ${expected}${named === null ? '' : ` (${named})`}, but the base of ${base.where} has the digest ${base.digest}`,
    { version: label, expected, found: base.digest },
    named === null ? {} : { next: `use the base that the adapter was trained on: ${named}` },
  );
}
