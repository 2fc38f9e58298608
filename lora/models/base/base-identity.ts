import { join } from 'node:path';
import { encodeCbor, sha256 } from '../../../protocol/cbor.ts';
import { openFile } from '../json.ts';
import { INDEX_FILE } from '../weights/tensors.ts';
import { listFiles, openBase } from './base-model.ts';
import { digestOf, digestRecords } from './digest-cache.ts';

/** A file of a base. `path` is a plain file name, `size` is in bytes, `digest` is the SHA-256 of the content in hex. */
export interface BaseFile {
  readonly path: string;
  readonly size: number;
  readonly digest: string;
}

export interface BaseDescription {
  /** SHA-256 of the canonical CBOR of `files`, in hex ({@link baseDigest}): the identity of the base. */
  readonly digest: string;
  /** Files of the base, sorted by path. */
  readonly files: readonly BaseFile[];
}

/** Files that affect the model's results or its tokens, besides the weights. */
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
 * The chat template that transformers uses for conversations with tools. It is not part of a base's identity, because
 * it affects only training data, and training data has separate digests.
 */
export const TOOL_TEMPLATE_FILE = 'additional_chat_templates/tool_use.jinja';

export interface DescribeOptions {
  readonly signal?: AbortSignal;
  /** Folder that caches the digests of large files, so that each file is read once. @default no cache */
  readonly cacheDir?: string;
}

/**
 * Computes the identity of a base from the contents of its config, tokenizer and weights. Other files in the
 * folder, such as a README or a licence, do not change the identity. Files are hashed as streams.
 *
 * @throws the errors of openBase, because only a folder with a usable base has an identity
 */
export async function describeBase(dir: string, options: DescribeOptions = {}): Promise<BaseDescription> {
  const model = await openBase(dir);
  const present = await listFiles(dir);
  const shards = [...model.tensors.values()].map(({ file }) => file);
  const paths = new Set([...DESCRIBED_FILES.filter((path) => present.has(path)), ...shards]);
  const files: BaseFile[] = [];
  for (const path of [...paths].sort()) files.push(await describeFile(dir, path, options));
  return { digest: baseDigest(files), files };
}

/** Returns the digest of a base with these files, in any order. */
export function baseDigest(files: readonly BaseFile[]): string {
  const described = files
    .map(({ path, size, digest }) => ({ path, size, digest }))
    .sort((a, b) => (a.path < b.path ? -1 : 1));
  return sha256(encodeCbor(described));
}

async function describeFile(dir: string, path: string, options: DescribeOptions): Promise<BaseFile> {
  const { signal, cacheDir } = options;
  const file = join(dir, path);
  const { handle } = await openFile(file);
  const records = cacheDir === undefined ? null : digestRecords(cacheDir);
  return { path, ...(await digestOf(file, handle, { records, signal })) };
}
