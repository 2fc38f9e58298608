import { join } from 'node:path';
import { adapterTemplate, CHAT_TEMPLATE_FILE } from '../lora/adapter/adapter-template.ts';
import { BASE_DIGEST_KEY, MAX_ADAPTER_HEADER_BYTES } from '../lora/adapter/codec.ts';
import { adapterError } from '../lora/adapter/errors.ts';
import {
  ADAPTER_CONFIG_FILE,
  ADAPTER_WEIGHTS_FILE,
  MAX_CONFIG_BYTES,
  readPeftFolder,
} from '../lora/adapter/peft.ts';
import { openBase } from '../lora/models/base/base-model.ts';
import { hubOrigin, isCommit, parseHubReference } from '../lora/models/hub/reference.ts';
import { readJsonObject } from '../lora/models/json.ts';
import { readHeader } from '../lora/models/weights/safetensors.ts';
import { sha256 } from '../protocol/cbor.ts';
import type { VersionManifest } from '../protocol/version-manifest.ts';
import { storageError } from '../storage/errors.ts';
import { loraSettings } from './adapter-settings.ts';
import { registryError } from './errors.ts';
import { cardMetrics } from './export/card-file.ts';
import { digestOfFile } from './folder-views.ts';
import { type KnownBase, knownBase } from './known-base.ts';
import type { Registry } from './registry.ts';
import type { AdapterVersion } from './version.ts';

/** Maximum length of the name of a base in a version manifest, in characters. */
const NAME_CHARACTERS = 200;

/** Facts about a version, besides its files and its base. All are optional. */
export type VersionFacts = Partial<
  Pick<VersionManifest, 'parents' | 'job' | 'data' | 'settings' | 'metrics' | 'curve' | 'rollBacks'>
>;

/** A PEFT folder to add, and what is known about it. */
export interface AddOptions extends VersionFacts {
  readonly name: string;
  /** PEFT folder: `adapter_config.json`, `adapter_model.safetensors`, and `chat_template.jinja` if the adapter has one. */
  readonly folder: string;
  /**
   * Folder of the base, or its description. Needed if another program wrote the adapter.
   * @default the base that the adapter's file names by its digest
   */
  readonly base?: string | KnownBase;
  /** Tags to move to the version, besides `latest`, which moves only to a new version. @default none */
  readonly tags?: readonly string[];
  /** Reason for the addition, which the tag log shows. @default "added from a folder" */
  readonly reason?: string;
  /** Folder that caches the digests of bases. @default no cache */
  readonly cacheDir?: string;
  /** @default never aborts */
  readonly signal?: AbortSignal;
}

/**
 * Adds a PEFT folder as a version. Copies the files, so the folder may change or vanish afterwards. If the settings name
 * the base by a path of this machine, the copy has the name of the base instead. If the folder of the base is known,
 * checks every tensor. Otherwise, checks only the header of the weight file.
 * @returns the version, and whether it is new. If a version of this name already has the same content, that
 *   version is returned instead of a new one, and `latest` stays where it is.
 * @throws SwarmError BASE_UNKNOWN if neither the adapter nor the caller names the base
 * @throws SwarmError ADAPTER_BASE if the adapter was made for another base
 * @throws SwarmError VERSION_NAME if a new version cannot have this name
 * @throws SwarmError ADAPTER_*, MODEL_*, TENSORS_*, FILE_CHANGED, STORE_FULL, WRITE_FAILED; the signal's
 *   reason
 */
export async function addFolder(
  registry: Registry,
  options: AddOptions,
): Promise<{ version: AdapterVersion; created: boolean }> {
  const { name, folder, signal = new AbortController().signal } = options;
  const weights = join(folder, ADAPTER_WEIGHTS_FILE);
  const config = await readJsonObject(join(folder, ADAPTER_CONFIG_FILE), MAX_CONFIG_BYTES);
  const header = await readHeader(weights, MAX_ADAPTER_HEADER_BYTES);
  const named = header.metadata[BASE_DIGEST_KEY] ?? null;
  const known = await baseOf(options, { named, config }, registry);
  if (named !== null && named !== known.base.digest) {
    throw adapterError(
      'ADAPTER_BASE',
      `the adapter in ${folder} was trained on the base with the digest ${named}, but ${known.folder ?? 'the given base'} has the digest ${known.base.digest}`,
      { expected: named, found: known.base.digest },
    );
  }
  if (known.folder !== null) {
    await readPeftFolder(folder, await openBase(known.folder));
    registry.rememberBase(known.base.digest, known.folder);
  }
  const template = (await adapterTemplate(folder)) === null ? [] : [CHAT_TEMPLATE_FILE];
  const paths = [ADAPTER_CONFIG_FILE, ADAPTER_WEIGHTS_FILE, ...template];
  const rewritten = withoutLocalBase(config, known.base.name);
  const digests = await Promise.all(
    paths.map((path) =>
      path === ADAPTER_CONFIG_FILE && rewritten !== null
        ? sha256(rewritten)
        : requireDigest(join(folder, path)),
    ),
  );
  // The files are protected before they are copied, so that no garbage collection deletes them before the version is
  // recorded.
  const hold = registry.holds.hold(digests, registry.clock.now());
  try {
    const files: VersionManifest['files'] = [];
    for (const [i, path] of paths.entries()) {
      if (path === ADAPTER_CONFIG_FILE && rewritten !== null) {
        files.push({ path, size: rewritten.length, digest: await registry.blobs.put(rewritten) });
        continue;
      }
      const { digest, size } = await registry.blobs.importFile(join(folder, path), { signal });
      if (digest !== digests[i]) throw changed(join(folder, path));
      files.push({ path, size, digest });
    }
    const manifest: VersionManifest = {
      schema: 1,
      name,
      base: known.base,
      files,
      parents: options.parents ?? [],
      job: options.job ?? null,
      data: options.data ?? [],
      settings: { ...loraSettings(config), ...options.settings },
      metrics: options.metrics ?? (await cardMetrics(folder)),
      ...((options.curve?.length ?? 0) > 1 && { curve: options.curve }),
      ...((options.rollBacks?.length ?? 0) > 0 && { rollBacks: options.rollBacks }),
      createdAt: registry.clock.now(),
    };
    const envelope = await registry.sign(manifest);
    const { tags = [], reason = 'added from a folder' } = options;
    return await registry.record({ envelope, tags, reason });
  } finally {
    registry.holds.release(hold);
  }
}

/**
 * Returns an adapter's settings as JSON, with the name of the base in place of its path on this machine; null if the
 * settings contain no such path. The path means nothing on other machines, and would tell their users about the folders
 * of this machine.
 */
function withoutLocalBase(config: Record<string, unknown>, name: string | null): Buffer | null {
  const { base_model_name_or_path: base } = config;
  if (typeof base !== 'string' || !/[/\\]/.test(base) || parseHubReference(base) !== null) return null;
  const origin = hubOrigin(base);
  const changed = {
    ...config,
    base_model_name_or_path: origin?.name ?? name,
    ...(origin !== null && { revision: origin.revision }),
  };
  return Buffer.from(`${JSON.stringify(changed, null, 2)}\n`);
}

async function baseOf(
  { base, folder, cacheDir, signal }: AddOptions,
  { named, config }: { named: string | null; config: Readonly<Record<string, unknown>> },
  registry: Registry,
): Promise<KnownBase> {
  if (typeof base === 'object') return base;
  const describing = { ...(cacheDir && { cacheDir }), ...(signal && { signal }) };
  if (base !== undefined) return knownBase(base, describing);
  if (named === null) {
    const message = `the adapter in ${folder} has no digest of its base, because another program wrote it`;
    throw registryError('BASE_UNKNOWN', message, { folder });
  }
  // If the registry has seen the base in a folder, and the folder still has it, the adapter is checked against that
  // base.
  const seen = registry.baseFolder(named);
  const found =
    seen === null ? null : await knownBase(seen, describing).catch(() => signal?.throwIfAborted() ?? null);
  const configured = configuredBase(config, named);
  if (found?.base.digest === named)
    return found.base.name === null ? { ...found, base: { ...found.base, ...configured } } : found;
  return { base: { ...configured, digest: named, tokenizer: null }, folder: null };
}

/** Returns the name of the base in an adapter's settings, and its commit on the hub. For a path, the name is that of the folder. */
function configuredBase(
  { base_model_name_or_path: base, revision }: Readonly<Record<string, unknown>>,
  digest: string,
): { name: string | null; revision: string | null } {
  if (typeof base !== 'string') return { name: null, revision: null };
  const hub = parseHubReference(base);
  if (hub !== null)
    return { name: hub.name, revision: typeof revision === 'string' && isCommit(revision) ? revision : null };
  const name = hubOrigin(base)?.name ?? base.split(/[/\\]/).at(-1)!;
  const isName = name !== '' && name !== digest && name.length <= NAME_CHARACTERS;
  return { name: isName ? name : null, revision: hubOrigin(base)?.revision ?? null };
}

async function requireDigest(path: string): Promise<string> {
  const digest = await digestOfFile(path);
  if (digest === null) throw changed(path);
  return digest;
}

function changed(path: string) {
  return storageError('FILE_CHANGED', `${path} changed while it was being read`, { path });
}
