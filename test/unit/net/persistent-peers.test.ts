import { readFile, writeFile } from 'node:fs/promises';
import { join as joinPath } from 'node:path';
import { describe, expect, it } from 'vitest';
import { PersistentPeers } from '../../../net/persistent-peers.ts';
import { eventually } from '../../utils/eventually.ts';
import { temporaryFolder } from '../../utils/folder.ts';
import { ManualClock } from '../../utils/manual-clock.ts';
import { recordingLog, startHost, type TestHost } from '../../utils/swarm/hosts.ts';

/** The listen address of a host, to restart it on the same port. */
function portOf(host: TestHost): string {
  return host.network.addresses()[0]!.replace(/\/p2p\/.*/, '');
}

async function setUp(path?: string) {
  const clock = new ManualClock();
  const dialled: string[] = [];
  const connected = new Set<string>();
  let answer: (address: string) => Promise<string> = async () => {
    throw new Error('refused');
  };
  const logged: TestHost['logged'] = [];
  const file = path ?? joinPath(await temporaryFolder(), 'peers.json');
  const peers = new PersistentPeers(
    { path: file },
    {
      clock,
      log: recordingLog(logged),
      random: () => 0.5,
      dial: (address) => {
        dialled.push(address);
        return answer(address);
      },
      isConnected: (peer) => connected.has(peer),
    },
  );
  const settle = () => new Promise<void>((resolve) => setImmediate(resolve));
  return {
    peers,
    clock,
    dialled,
    connected,
    logged,
    file,
    settle,
    setAnswer: (to: typeof answer) => (answer = to),
  };
}

describe('PersistentPeers', () => {
  it('knows the peers that answered at its addresses', async () => {
    const { peers, setAnswer, settle } = await setUp();
    setAnswer(async () => 'coordinator');
    peers.add('/a', { save: false });
    expect(peers.has('coordinator')).toBe(false);
    await settle();
    expect(peers.has('coordinator')).toBe(true);
    expect(peers.has('stranger')).toBe(false);
  });

  it('dials again with waits that double up to a minute, without end', async () => {
    const { peers, clock, dialled, settle } = await setUp();
    peers.add('/a', { save: false });
    const waits: number[] = [];
    for (let i = 0; i < 12; i++) {
      await settle();
      expect(dialled).toHaveLength(i + 1);
      waits.push(clock.due()[0]!);
      clock.advance(clock.due()[0]!);
    }
    expect(waits).toEqual([
      500, 1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000, 60_000, 60_000, 60_000,
    ]);
    await peers.stop();
    expect(clock.due()).toEqual([]);
  });

  it('dials a disconnected peer again, also if no event reported it', async () => {
    const { peers, clock, dialled, connected, settle, setAnswer } = await setUp();
    setAnswer(async () => {
      connected.add('peer');
      return 'peer';
    });
    peers.add('/a', { save: false });
    await settle();
    connected.delete('peer');
    peers.disconnected('peer');
    clock.advance(500);
    await settle();
    expect(dialled).toHaveLength(2);
    clock.advance(15_000);
    await settle();
    expect(dialled).toHaveLength(2);
    connected.delete('peer');
    clock.advance(15_000);
    await settle();
    expect(dialled).toHaveLength(3);
    await peers.stop();
  });

  it('dials saved addresses after a restart, and only those', async () => {
    const first = await setUp();
    await first.peers.start();
    first.peers.add('/saved', { save: true });
    first.peers.add('/not-saved', { save: false });
    await first.peers.stop();
    expect(JSON.parse(await readFile(first.file, 'utf8'))).toEqual({
      version: 1,
      addresses: ['/saved'],
    });
    const second = await setUp(first.file);
    await second.peers.start();
    expect(second.dialled).toEqual(['/saved']);
    await second.peers.stop();
  });

  it('logs and ignores a damaged file', async () => {
    const file = joinPath(await temporaryFolder(), 'peers.json');
    await writeFile(file, '{"version":1,"addresses":[1,2');
    const { peers, logged } = await setUp(file);
    await peers.start();
    expect(logged.map(({ action }) => action)).toEqual(['peers-file-unreadable']);
    await peers.stop();
  });

  it('replaces the least recently used address if the file is full, and stops dialling it', async () => {
    const { peers, clock, dialled, file, settle } = await setUp();
    for (let i = 0; i < 256; i++) peers.add(`/${i}`, { save: true });
    peers.add('/0', { save: true });
    await settle();
    peers.add('/new', { save: true });
    await settle();
    dialled.length = 0;
    clock.advance(60_000);
    await settle();
    expect(new Set(dialled).size).toBe(256);
    expect(dialled).not.toContain('/1');
    await peers.stop();
    const { addresses } = JSON.parse(await readFile(file, 'utf8'));
    expect(addresses).toHaveLength(256);
    expect(addresses.slice(0, 1)).toEqual(['/2']);
    expect(addresses.slice(-2)).toEqual(['/0', '/new']);
  });
});

describe('hosts', () => {
  it('reconnect to a persistent peer after either side restarts', async () => {
    const hub = await startHost();
    const address = portOf(hub);
    const node = await startHost();
    node.network.addPersistentPeer(address);
    const knows = (host: TestHost, other: TestHost) =>
      host.network.peers().some(({ peer }) => peer === other.peer);
    await eventually(() => knows(node, hub));

    await hub.network.stop();
    await eventually(() => !knows(node, hub));
    const hubAgain = await startHost({ home: hub.home, listen: [address] });
    expect(hubAgain.peer).toBe(hub.peer);
    await eventually(() => knows(node, hubAgain) && knows(hubAgain, node));

    await node.network.stop();
    await eventually(() => !knows(hubAgain, node));
    const nodeAgain = await startHost({ home: node.home });
    await eventually(() => knows(hubAgain, nodeAgain));
  });

  it('stay connected to their bootstrap addresses, with or without a peer id', async () => {
    const [first, second] = await Promise.all([startHost(), startHost()]);
    const node = await startHost({ bootstrap: [portOf(first), second.network.addresses()[0]!] });
    await eventually(() => node.network.peers().length === 2);
  });
});
