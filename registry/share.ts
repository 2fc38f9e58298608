/** Transfers versions between two machines over libp2p, without a daemon. */
import { randomBytes } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Logger } from '../common/logger.ts';
import { packageVersion } from '../common/package.ts';
import { createHost } from '../net/host.ts';
import { loadIdentity } from '../net/identity.ts';
import type { SwarmNetwork } from '../net/network.ts';
import { JOB_KEY_BYTES, type JobKey, proveMembership, provesMembership } from '../protocol/access/job-key.ts';
import { decodeTicket, encodeTicket, type Ticket } from '../protocol/access/ticket.ts';
import { sha256 } from '../protocol/cbor.ts';
import { verifyMessage } from '../protocol/signing.ts';
import { registryError } from './errors.ts';
import { recordFiles } from './export/record-files.ts';
import { TRANSFER } from './folder-views.ts';
import type { Registry } from './registry.ts';
import type { AdapterVersion } from './version.ts';

/** Options of a share. */
export interface ShareOptions {
  /** Multiaddrs to listen on. @default any free TCP port on all addresses */
  readonly listen?: readonly string[];
  /** Further multiaddrs to announce, without /p2p, such as the public address of a router. @default none */
  readonly announce?: readonly string[];
}

/** Options of a fetch. */
export interface FetchVersionOptions {
  /** The line that `shareVersion` returned on the other machine. */
  readonly ticket: string;
  /** Name of the adapter in this registry. @default its name on the other machine */
  readonly name?: string | undefined;
  /** @default never aborts */
  readonly signal?: AbortSignal;
  /** Called as bytes arrive, with the number of bytes so far and the size of all files in bytes. */
  readonly onProgress?: (progress: { bytes: number; total: number }) => void;
}

/** A version that another machine can fetch. */
export interface SharedVersion {
  /** The line to give to `fetchVersion`. Anyone who has this line can fetch the version while it is shared. */
  readonly ticket: string;
  readonly addresses: readonly string[];
  /** Stops sharing. */
  stop(): Promise<void>;
}

/** Dependencies of `shareVersion` and `fetchVersion`. */
export interface ShareDeps {
  readonly log: Logger;
}

/** Id of the key of a share. The protocol gives keys ids because the key of a job changes. A share has only one key. */
export const KEY_ID = 1;
/** Maximum size of a signed manifest that is read from the blob store, in bytes. */
const ENVELOPE_BYTES = 2 ** 20;

/**
 * Serves the files of a version until `stop` is called. Only a peer that has the ticket gets the files. Other peers get
 * the same answer as if the files did not exist.
 * @throws SwarmError VERSION_DAMAGED, LISTEN_FAILED, USAGE for a wrong address
 */
export async function shareVersion(
  registry: Registry,
  version: AdapterVersion,
  options: ShareOptions,
  deps: ShareDeps,
): Promise<SharedVersion> {
  await registry.folder(version);
  const envelope = registry.envelope(version);
  const { blobs, clock, holds } = registry;
  const digest = sha256(envelope);
  const served = new Set([...version.manifest.files.map((file) => file.digest), digest]);
  const hold = holds.hold(served, clock.now());
  try {
    await blobs.put(envelope, digest);
    const key: JobKey = { id: KEY_ID, key: new Uint8Array(randomBytes(JOB_KEY_BYTES)) };
    const listen = options.listen ?? ['/ip4/0.0.0.0/tcp/0'];
    const host = await startHost(registry, { listen, announce: options.announce ?? [] }, deps);
    const { network } = host;
    network.serveBlobs((requester, wanted, proof) => {
      if (proof === null || !served.has(wanted)) return false;
      return provesMembership(proof, version.digest, key, { requester, holder: network.signer.peerId });
    });
    const addresses = network.addresses();
    const ticket = encodeTicket({
      addresses,
      version: version.digest,
      envelope: { digest, size: envelope.byteLength },
      key: key.key,
    });
    const stop = async (): Promise<void> => {
      await host.stop();
      holds.release(hold);
    };
    return { ticket, addresses, stop };
  } catch (error) {
    holds.release(hold);
    throw error;
  }
}

/**
 * Fetches a version from a machine that shares it, and adds it to the registry. Checks the signature of its manifest, and
 * the digest of every file. Bytes that have arrived are kept for the next call.
 * @throws SwarmError TICKET_INVALID, CONNECT_FAILED, BLOB_UNAVAILABLE, TICKET_UNTRUSTED, SIGNATURE_INVALID, STORE_FULL
 */
export async function fetchVersion(
  registry: Registry,
  options: FetchVersionOptions,
  deps: ShareDeps,
): Promise<{ version: AdapterVersion; created: boolean }> {
  const { name, signal = new AbortController().signal, onProgress } = options;
  const ticket = decodeTicket(options.ticket);
  const { blobs, clock, holds } = registry;
  const host = await startHost(registry, { listen: [], announce: [] }, deps);
  const held: number[] = [];
  try {
    const holder = await connect(host.network, ticket, signal);
    const ends = { requester: host.network.signer.peerId, holder };
    const fetch = async (
      ref: { digest: string; size: number },
      arrived: (bytes: number) => void,
    ): Promise<void> => {
      held.push(holds.hold([ref.digest], clock.now()));
      await host.network.fetchBlob(ref, {
        holders: [holder],
        prove: () => proveMembership(ticket.version, { id: KEY_ID, key: ticket.key }, ends),
        signal,
        onProgress: ({ bytes }) => arrived(bytes),
      });
    };
    await fetch(ticket.envelope, () => {});
    const envelope = await blobs.get(ticket.envelope.digest, { maxBytes: ENVELOPE_BYTES });
    const { message: manifest, digest } = verifyMessage('version-manifest', envelope);
    if (digest !== ticket.version) {
      const message = `${holder} sent the manifest of version ${digest} instead of ${ticket.version}`;
      throw registryError('TICKET_UNTRUSTED', message, { holder, expected: ticket.version, found: digest });
    }
    const total = manifest.files.reduce((sum, { size }) => sum + size, 0);
    let done = 0;
    for (const file of manifest.files) {
      await fetch(file, (bytes) => onProgress?.({ bytes: done + bytes, total }));
      done += file.size;
    }
    return await recordFiles(registry, {
      envelope,
      pathOf: (file) => blobs.path(file.digest),
      name,
      reason: `from ${holder}`,
      signal,
    });
  } finally {
    await host.stop();
    for (const hold of held) holds.release(hold);
  }
}

/** Connects to the first address that answers, and returns its peer id. @throws SwarmError CONNECT_FAILED */
async function connect(network: SwarmNetwork, { addresses }: Ticket, signal: AbortSignal): Promise<string> {
  let failure: unknown;
  for (const address of addresses) {
    try {
      return await network.connect(address, { signal });
    } catch (error) {
      signal.throwIfAborted();
      failure ??= error;
    }
  }
  throw failure;
}

/** Starts a libp2p host with a new key. Two hosts that both used the registry's key would look like the same peer. */
async function startHost(
  { home, blobs, clock }: Registry,
  addresses: { listen: readonly string[]; announce: readonly string[] },
  { log }: ShareDeps,
): Promise<{ network: SwarmNetwork; stop(): Promise<void> }> {
  const folder = await mkdtemp(join(home, TRANSFER));
  const remove = (): Promise<void> => rm(folder, { recursive: true, force: true });
  try {
    const agent = `lora-swarm/${packageVersion()}`;
    const options = { ...addresses, bootstrap: [], mdns: [], home: folder, agent };
    const network = await createHost(options, { identity: await loadIdentity(folder), blobs, log, clock });
    return { network, stop: () => network.stop().finally(remove) };
  } catch (error) {
    await remove();
    throw error;
  }
}
