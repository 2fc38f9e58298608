/**
 * Uploads versions to a Hugging Face hub, and downloads them from it. An adapter has a repository, and each
 * version is a commit.
 */
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { commonError } from '../common/common-errors.ts';
import { systemClock } from '../common/time/system-clock.ts';
import { CHAT_TEMPLATE_FILE } from '../lora/adapter/adapter-template.ts';
import { ADAPTER_CONFIG_FILE, ADAPTER_WEIGHTS_FILE } from '../lora/adapter/peft.ts';
import { downloadFiles } from '../lora/models/hub/download-files.ts';
import { type HubReference, parseHubReference } from '../lora/models/hub/reference.ts';
import type { HubDeps } from '../lora/models/hub/requests.ts';
import { uploadToHub } from '../lora/models/hub/upload.ts';
import { ADAPTER_BYTES } from '../protocol/limits.ts';
import { messageBytes } from '../protocol/messages.ts';
import { addFolder } from './add-folder.ts';
import { registryError } from './errors.ts';
import { ENVELOPE_FILE, exportFolder } from './export/export-folder.ts';
import { recordFiles } from './export/record-files.ts';
import { inTemporaryFolder } from './folder-views.ts';
import { LATEST } from './reference.ts';
import type { Registry } from './registry.ts';
import { nameOf } from './run-facts.ts';
import type { AdapterVersion } from './version.ts';

/** A hub and the account that is used there. */
export interface HubAccount {
  /** URL of the hub, without a trailing slash. */
  readonly endpoint: string;
  /** Token of the account; null if there is none. */
  readonly accessToken: string | null;
}

/** Options of an upload to a hub. */
export interface HubPushOptions extends HubAccount {
  /** The repository to upload to: `ORG/NAME`, or `ORG/NAME@BRANCH`. */
  readonly repository: string;
  /** Whether a repository that does not exist yet becomes private. @default false */
  readonly isPrivate?: boolean;
  /** @default never aborts */
  readonly signal?: AbortSignal;
}

/** Options of a download from a hub. */
export interface HubPullOptions extends HubAccount {
  /** The repository to download from: `ORG/NAME`, or `ORG/NAME@REVISION`. */
  readonly repository: string;
  /**
   * Name of the adapter in this registry.
   * @default the name in the signed manifest, else the last part of the repository's name
   */
  readonly name?: string | undefined;
  /**
   * Folder of the base. Needed if another program wrote the adapter. If it is given, a manifest of a version in the
   * repository is ignored.
   */
  readonly base?: string | undefined;
  /** @default never aborts */
  readonly signal?: AbortSignal;
}

const MIB = 2 ** 20;

/**
 * Uploads a version to a model repository on a hub: the PEFT files, the model card and the manifest.
 * @returns the commit and the URL of its page
 * @throws SwarmError USAGE, VERSION_DAMAGED, HUB_*; the signal's reason
 */
export async function pushToHub(
  registry: Registry,
  version: AdapterVersion,
  options: HubPushOptions,
  deps: HubDeps = { fetch, clock: systemClock },
): Promise<{ commit: string; url: string }> {
  const { repository, isPrivate = false, signal = new AbortController().signal, ...account } = options;
  const reference = requireRepository(repository);
  return inTemporaryFolder(registry.home, async (folder) => {
    await exportFolder(registry, version, folder, { signal });
    const names = await readdir(folder);
    const files = names.map((name) => ({ name, path: join(folder, name) }));
    const title = `Add ${version.label} (${version.digest.slice(0, 12)})`;
    return uploadToHub({ reference, files, title, isPrivate, signal, ...account }, deps);
  });
}

/**
 * Downloads an adapter from a repository on a hub and adds it as a version. If the repository has the signed manifest
 * of a version and `base` is not given, the version keeps its manifest and digest. Any other PEFT adapter becomes a new
 * version. If another program wrote the adapter, `base` must be given.
 * @throws SwarmError IMPORT_NAME if no `name` is given, and this registry already has an adapter with the repository's
 *   name that comes from another source
 * @throws SwarmError USAGE, HUB_*, IMPORT_DAMAGED, SIGNATURE_INVALID, BASE_UNKNOWN, and the errors of `addFolder`
 */
export async function pullFromHub(
  registry: Registry,
  options: HubPullOptions,
  deps: HubDeps = { fetch, clock: systemClock },
): Promise<{ version: AdapterVersion; created: boolean }> {
  const { repository, name, base, signal = new AbortController().signal, ...account } = options;
  const reference = requireRepository(repository);
  return inTemporaryFolder(registry.home, async (folder) => {
    const files = [
      { name: ADAPTER_CONFIG_FILE, maxBytes: MIB },
      { name: ADAPTER_WEIGHTS_FILE, maxBytes: ADAPTER_BYTES },
      { name: CHAT_TEMPLATE_FILE, maxBytes: MIB, optional: true },
      { name: ENVELOPE_FILE, maxBytes: messageBytes['version-manifest'] + MIB, optional: true },
    ];
    const commit = await downloadFiles({ reference, files, folder, signal, ...account }, deps);
    const source = `from ${reference.name} at `;
    const reason = `${source}${commit.slice(0, 12)}`;
    const envelope = await readFile(join(folder, ENVELOPE_FILE)).catch(() => null);
    if (envelope !== null && base === undefined) {
      const pathOf = ({ path }: { path: string }): string => join(folder, path);
      return recordFiles(registry, { envelope: new Uint8Array(envelope), pathOf, name, reason, signal });
    }
    const own = name ?? nameOf(reference.name);
    if (name === undefined) refuseOtherSource(registry, own, { repository: reference.name, source });
    return addFolder(registry, { name: own, folder, ...(base !== undefined && { base }), reason, signal });
  });
}

/**
 * Refuses the name of a repository if this registry has an adapter of that name whose newest version comes from
 * another source. Without this check, the tag `latest` of that adapter would move to a version from the repository.
 * @throws SwarmError IMPORT_NAME
 */
function refuseOtherSource(
  registry: Registry,
  name: string,
  { repository, source }: { repository: string; source: string },
): void {
  const newest = registry.tagLog(name, LATEST).at(-1);
  if (newest === undefined || newest.reason.startsWith(source)) return;
  const message = `this registry has an adapter "${name}" whose newest version is not from ${repository}`;
  throw registryError('IMPORT_NAME', message, { name, repository, reason: newest.reason });
}

function requireRepository(text: string): HubReference {
  const reference = parseHubReference(text);
  if (reference !== null) return reference;
  const next = 'write ORG/NAME, or ORG/NAME@BRANCH';
  throw commonError('USAGE', `"${text.slice(0, 200)}" does not name a repository on a hub`, {}, { next });
}
