import { join } from 'node:path';
import { encodeCbor, sha256 } from '../../protocol/cbor.ts';
import { listFiles, openBase } from './base-model.ts';
import { digestOf, digestRecords } from './digest-cache.ts';
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
 * What transformers reads beside `chat_template.jinja` for conversations with tools. No part of a base's identity: it
 * shapes data, which is then addressed by its own content.
 */
export const TOOL_TEMPLATE_FILE = 'additional_chat_templates/tool_use.jinja';

export interface DescribeOptions {
  readonly signal?: AbortSignal;
  /** Where digests of large files are remembered, so that they are read once. @default nowhere */
  readonly cacheDir?: string;
}

/**
 * The identity of a base model: its config, tokenizer and weights by content. Files are hashed as streams.
 * A README or a licence beside them does not change it.
 *
 * @throws SwarmError as openBase: only a folder that holds a usable model has an identity
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

/** What names a base model of these files, in whatever order they are given. */
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
