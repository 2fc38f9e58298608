import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { encodeCbor, sha256 } from '../../protocol/cbor.ts';
import { listFiles, openModel } from './folder.ts';
import { openFile } from './json.ts';
import { INDEX_FILE } from './tensors.ts';

/** A file of a base model: plain name, bytes, and the SHA-256 of its content in hex. */
export interface BaseFile {
  readonly path: string;
  readonly size: number;
  readonly digest: string;
}

export interface BaseDescription {
  /** SHA-256 of the canonical CBOR of `files`, in hex: names the base model ({@link baseDigest}). */
  readonly digest: string;
  /** Sorted by path. */
  readonly files: readonly BaseFile[];
}

/** Files besides the weights that decide what a model computes or how text becomes tokens. */
export const DESCRIBED_FILES = [
  'config.json',
  'generation_config.json',
  'tokenizer.json',
  'tokenizer_config.json',
  'special_tokens_map.json',
  'chat_template.jinja',
  INDEX_FILE,
];

/**
 * The identity of a base model: its config, tokenizer and weights by content. Files are hashed as streams.
 * A README or a licence beside them does not change it.
 *
 * @throws SwarmError as openModel: only a folder that holds a usable model has an identity
 */
export async function describeBase(
  dir: string,
  options: { signal?: AbortSignal } = {},
): Promise<BaseDescription> {
  const model = await openModel(dir);
  const present = await listFiles(dir);
  const shards = [...model.tensors.values()].map(({ file }) => file);
  const paths = new Set([...DESCRIBED_FILES.filter((path) => present.has(path)), ...shards]);
  const files: BaseFile[] = [];
  for (const path of [...paths].sort()) files.push(await describeFile(dir, path, options.signal));
  return { digest: baseDigest(files), files };
}

/** What names a base model of these files, in whatever order they are given. */
export function baseDigest(files: readonly BaseFile[]): string {
  const described = files
    .map(({ path, size, digest }) => ({ path, size, digest }))
    .sort((a, b) => (a.path < b.path ? -1 : 1));
  return sha256(encodeCbor(described));
}

async function describeFile(dir: string, path: string, signal?: AbortSignal): Promise<BaseFile> {
  const { handle } = await openFile(join(dir, path));
  const hash = createHash('sha256');
  let size = 0;
  // The stream closes the handle when it ends, fails or is aborted.
  for await (const chunk of handle.createReadStream({ highWaterMark: 2 ** 20, signal })) {
    hash.update(chunk);
    size += chunk.length;
  }
  return { path, size, digest: hash.digest('hex') };
}
