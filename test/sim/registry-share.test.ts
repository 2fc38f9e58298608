import { readdir } from 'node:fs/promises';
import { describe, expect, it, onTestFinished } from 'vitest';
import { systemClock } from '../../common/time/system-clock.ts';
import { silentLogger } from '../../monitor/logs/log.ts';
import { loadIdentity } from '../../net/identity.ts';
import { decodeTicket, encodeTicket } from '../../protocol/access/ticket.ts';
import { Registry } from '../../registry/registry.ts';
import { fetchVersion, shareVersion } from '../../registry/share.ts';
import { endShare, keepShare, SharedVersions } from '../../registry/shared-versions.ts';
import { temporaryFolder } from '../utils/folder.ts';
import { addSmall } from '../utils/registry/registry.ts';
import { withCode } from '../utils/source/codes.ts';
import { LOOPBACK, startHost } from '../utils/swarm/hosts.ts';
import { signerOf } from '../utils/swarm/signers.ts';

const deps = { log: silentLogger };

/** Opens a registry on the machine's clock, which the network needs. */
async function liveRegistry(): Promise<Registry> {
  const home = await temporaryFolder();
  const registry = await Registry.open({ home }, { clock: systemClock, signer: async () => signerOf(1) });
  onTestFinished(() => registry.close());
  return registry;
}

describe('a shared version', () => {
  it('is fetched over libp2p with its ticket, and is the same version; a peer without the ticket gets none of its files', async () => {
    const here = await liveRegistry();
    const version = await addSmall(here, 'demo', 1, { metrics: { heldOutLoss: 1 } });
    const shared = await shareVersion(here, version, { listen: [LOOPBACK] }, deps);
    const there = await liveRegistry();
    const bytes: number[] = [];
    const fetched = await fetchVersion(
      there,
      { ticket: shared.ticket, onProgress: (progress) => bytes.push(progress.bytes / progress.total) },
      deps,
    );
    expect(fetched).toMatchObject({ created: true, version: { label: 'demo:v1', digest: version.digest } });
    expect(bytes.at(-1)).toBe(1);
    await there.folder(fetched.version);
    expect((await readdir(there.home)).filter((name) => name.startsWith('transfer-'))).toEqual([]);

    // To a peer that has another key, or none, the daemon answers as if the files did not exist.
    const ticket = decodeTicket(shared.ticket);
    const forged = encodeTicket({ ...ticket, key: new Uint8Array(32) });
    const stranger = await liveRegistry();
    await expect(fetchVersion(stranger, { ticket: forged }, deps)).rejects.toThrow(
      withCode('BLOB_UNAVAILABLE'),
    );
    const { network } = await startHost();
    const { signal } = new AbortController();
    const holder = await network.connect(ticket.addresses[0]!, { signal });
    const { size, digest } = version.manifest.files[1]!;
    await expect(network.fetchBlob({ size, digest }, { holders: [holder], signal })).rejects.toThrow(
      withCode('BLOB_UNAVAILABLE'),
    );

    // A ticket for another version of the same machine is refused before any file is fetched.
    const other = encodeTicket({ ...ticket, version: 'c'.repeat(64) });
    await expect(fetchVersion(stranger, { ticket: other }, deps)).rejects.toThrow(
      withCode('BLOB_UNAVAILABLE'),
    );
    expect(stranger.names()).toEqual([]);

    await shared.stop();
    await expect(fetchVersion(stranger, { ticket: shared.ticket }, deps)).rejects.toThrow(
      withCode('CONNECT_FAILED'),
    );
  });

  it('is served by a daemon with other blobs, also after a restart of the daemon', async () => {
    const here = await liveRegistry();
    const version = await addSmall(here, 'demo', 1);
    const home = await temporaryFolder();
    const identity = await loadIdentity(home);
    const self = identity.signer.peerId;
    const daemon = async (listen: string) => {
      const shared = new SharedVersions({ home: here.home }, { clock: systemClock, ...deps, self });
      const host = await startHost({ home, identity, listen: [listen], other: shared });
      // The daemon serves none of its own blobs to strangers.
      host.network.serveBlobs(() => false);
      await shared.look();
      const stop = async (): Promise<void> => {
        await host.network.stop();
        await shared.stop();
      };
      return { ...host, shared, stop };
    };
    const first = await daemon(LOOPBACK);
    const [address] = first.network.addresses();
    const ticket = await keepShare(here, version, [address!]);
    await first.shared.look();
    const there = await liveRegistry();
    expect((await fetchVersion(there, { ticket }, deps)).version.digest).toBe(version.digest);
    await first.stop();
    const second = await daemon(address!.replace(/\/p2p\/.*/, ''));
    onTestFinished(() => second.stop());
    const third = await liveRegistry();
    expect((await fetchVersion(third, { ticket }, deps)).version.digest).toBe(version.digest);
    endShare(here, version);
    await second.shared.look();
    const late = await liveRegistry();
    await expect(fetchVersion(late, { ticket }, deps)).rejects.toThrow(withCode('BLOB_UNAVAILABLE'));
  });
});
