import { describe, expect, it } from 'vitest';
import {
  clockText,
  type DaemonFacts,
  daemonFindings,
  findingLines,
} from '../../../cli/doctor/daemon-findings.ts';
import { reachText } from '../../../cli/views/reach.ts';
import type { CoordinatorStatus, NodeStatus } from '../../../index.ts';
import { reachOf } from '../../../net/addresses.ts';
import type { NodeJobStatus } from '../../../protocol/api/node.ts';

const healthy = {
  failing: [],
  peers: [],
  freeBytes: 2 ** 40,
  version: '1.0.0',
  unreachable: null,
  clocks: [],
};

/** Returns the findings about a node with one job, as "level message". */
function foundIn(
  job: object,
  {
    updates = [],
    pause = null,
    ...facts
  }: { updates?: object[]; pause?: object | null } & Partial<DaemonFacts> = {},
) {
  const activity = {
    coordinator: { addresses: ['/ip4/10.0.0.1/tcp/4'], peer: 'p', connected: true, unreachable: null },
    hold: null,
    job: { job: 'ab', name: 'moby', role: 'contributor', phase: 'training', reason: '' },
    state: 'training',
    reason: '',
    standing: { kind: 'good', untilRound: null, strikes: 0 },
    shutOut: null,
    ...job,
  } as unknown as NodeJobStatus;
  const answer = {
    role: 'node',
    version: '1.0.0',
    jobs: [activity],
    updates,
    pause,
  } as unknown as NodeStatus;
  return daemonFindings({ ...healthy, ...facts, answer });
}

function nodeFindings(...of: Parameters<typeof foundIn>) {
  return foundIn(...of).map(({ level, message }) => `${level} ${message}`);
}

describe('lora-swarm doctor --swarm', () => {
  it('finds nothing about a node that works', () => {
    expect(nodeFindings({})).toEqual([]);
    expect(findingLines([])).toHaveLength(1);
  });

  it('warns about a clock that differs by more than a minute', () => {
    const clocks = [{ coordinator: 'peer-id-1234567', offsetMs: -60_000, roundTripMs: 8 }];
    expect(nodeFindings({}, { clocks })).toEqual([]);
    const off = [{ ...clocks[0]!, offsetMs: -60_001 }];
    expect(nodeFindings({}, { clocks: off })).toEqual([expect.stringMatching(/^warning .*60\.001 s behind/)]);
    expect(clockText({ ...clocks[0]!, offsetMs: 250 })).toMatch(/0\.250 s ahead.*0\.004 s/);
  });

  it('names only the clock if a coordinator has refused a node because of it', () => {
    const coordinator = {
      addresses: ['/ip4/10.0.0.1/tcp/4'],
      peer: 'p',
      connected: false,
      unreachable: null,
    };
    const reason = 'the clock is 600 s ahead';
    const refused = { coordinator, job: null, state: 'joining', reason, hold: { reason: 'clock' } };
    const failing = ['job', 'coordinator'].map((check) => ({ check, reason: 'missing' }));
    expect(nodeFindings(refused, { failing })).toEqual([expect.stringMatching(/^error .*600 s/)]);
    const disk = { check: 'disk', reason: 'full' };
    expect(nodeFindings(refused, { failing: [...failing, disk] })).toHaveLength(2);
    const unreachable = { reason: 'refused', failures: 1, retrySeconds: 5 };
    const away = { ...refused, coordinator: { ...coordinator, unreachable } };
    expect(nodeFindings(away, { failing })).toHaveLength(3);
  });

  it('says why a node does not contribute', () => {
    const shutOut = { code: 'BANNED', message: 'this node is banned' };
    expect(nodeFindings({ shutOut, state: 'joining' })).toEqual([expect.stringMatching(/^error .*banned/)]);
    const pause = { reason: 'battery', text: 'this machine runs on battery', until: null };
    const held = { state: 'joining', reason: pause.text, hold: { reason: 'battery', detail: '' } };
    expect(nodeFindings(held, { pause })).toEqual([expect.stringMatching(/^note .*battery/)]);
    const coordinator = { addresses: ['/ip4/10.0.0.1/tcp/4'], peer: 'p', connected: false };
    expect(nodeFindings({ coordinator })).toEqual([expect.stringMatching(/^error .*10\.0\.0\.1/)]);
    const clock = "the node's clock is 90 s behind the coordinator's";
    expect(nodeFindings({ state: 'joining', reason: clock })).toEqual([
      expect.stringMatching(/^error .*90 s/),
    ]);
    const standing = { kind: 'suspended', untilRound: 7, strikes: 3 };
    expect(nodeFindings({ standing })).toEqual([expect.stringMatching(/^error .*round 7.*3 strikes/)]);
    const job = { job: 'ab', name: 'moby', role: 'observer', phase: 'paused', reason: 'lunch' };
    expect(nodeFindings({ job })).toEqual([
      expect.stringMatching(/^note .*observer/),
      expect.stringMatching(/^note .*paused: lunch/),
    ]);
    const ended = { ...job, role: 'contributor', phase: 'finished', rounds: 8, roundsDone: 3 };
    expect(nodeFindings({ job: ended })).toEqual([expect.stringMatching(/^note .*stopped early: lunch/)]);
    const whole = { ...ended, roundsDone: 8, reason: '' };
    expect(nodeFindings({ job: whole })).toEqual([expect.stringMatching(/^note .*finished/)]);
    const refused = { job: 'ab', round: 3, code: 'harmful', meaning: 'worse with it', detail: '' };
    expect(foundIn({}, { updates: [refused] })).toEqual([
      {
        level: 'warning',
        message: expect.stringMatching(/round 3.*: worse with it$/),
        next: null,
        code: 'harmful',
      },
    ]);
    const unmerged = { ...refused, code: 'null-round', detail: 'the job was paused' };
    expect(foundIn({}, { updates: [unmerged] })).toMatchObject([
      { message: expect.stringMatching(/round 3.*: the job was paused$/), code: 'null-round' },
    ]);
    expect(nodeFindings({}, { updates: [{ ...refused, code: 'accepted' }] })).toEqual([]);
  });

  it('finds failing checks, a full disk and another version', () => {
    const failing = [{ check: 'store', reason: 'the database cannot be written' }];
    expect(nodeFindings({}, { failing, freeBytes: 5_000_000, version: '2.0.0' })).toEqual([
      expect.stringMatching(/^error store/),
      expect.stringMatching(/^warning .*1\.0\.0.*2\.0\.0/),
      expect.stringMatching(/^warning .*5.*MB/),
    ]);
  });

  it("names a coordinator's private addresses, and its jobs and nodes that do not work", () => {
    const health = (level: string) => ({ level, reason: 'because' });
    const jobs = [
      { name: 'a', health: health('green') },
      { name: 'b', health: health('red') },
    ];
    const peers = [
      { peer: 'x', name: 'otter', jobName: 'a', health: health('yellow') },
      { peer: 'y', name: 'hen', jobName: 'a', health: health('grey') },
    ];
    const answer = { role: 'coordinator', version: '1.0.0', reach: [], jobs } as unknown as CoordinatorStatus;
    const unreachable = { message: 'all addresses are private', next: 'use --announce' };
    const found = daemonFindings({ ...healthy, answer, peers: peers as never, unreachable });
    expect(found).toMatchObject([
      { level: 'error', message: expect.stringContaining('job b') },
      { level: 'warning', next: unreachable.next },
      {
        level: 'warning',
        message: expect.stringContaining('otter'),
        next: expect.stringContaining('--why x'),
      },
    ]);
    expect(findingLines(found)).toHaveLength(5);
  });

  it('warns about an address in the invites that a node on the internet could not reach', () => {
    const check = { result: 'timeout', peer: 'node-id', from: 'internet', secondsAgo: 60 };
    const address = '/ip4/1.1.1.1/tcp/4040/p2p/x';
    const found = (changes: object, of: object = {}) => {
      const one = { address, announced: true, reach: 'internet', check: { ...check, ...of }, ...changes };
      const answer = { role: 'coordinator', version: '1.0.0', jobs: [], reach: [one] } as never;
      return daemonFindings({ ...healthy, answer });
    };
    expect(found({})).toEqual([
      {
        level: 'warning',
        message: expect.stringContaining(address),
        next: expect.stringContaining('--announce'),
      },
    ]);
    for (const fine of [{ check: null }, { announced: false }, { reach: 'local network' }])
      expect(found(fine)).toEqual([]);
    expect(found({}, { result: 'reached' })).toEqual([]);
    expect(found({}, { from: 'local network' })).toEqual([]);
  });

  it('shows next to an address who has reached it, or why not', () => {
    const one = { address: '/a', announced: true, reach: 'internet', check: null } as const;
    const check = { peer: 'peer-id-12345678', from: 'internet', secondsAgo: 125 } as const;
    expect(reachText({ ...one, reach: 'local network' })).toBe('');
    expect(reachText(one)).not.toBe('');
    expect(reachText({ ...one, check: { ...check, result: 'reached' } })).toMatch(
      /^reached\b.*internet.*345678.*2 min/,
    );
    const failed = { ...check, result: 'timeout', from: 'this machine' } as const;
    const why = reachText({ ...one, check: failed });
    expect(why).toMatch(/\bthis machine\b.*345678.*2 min/);
    expect(why).not.toMatch(/^reached\b/);
    expect(reachText({ ...one, check: { ...failed, result: 'refused' } })).not.toBe(why);
    expect(reachText({ ...one, announced: false, check: failed })).toMatch(new RegExp(`\\w; ${why}$`));
  });

  it('tells from where an address can be reached', () => {
    const addresses = ['/ip4/127.0.0.1/tcp/1', '/ip4/192.168.1.2/tcp/1', '/ip4/1.1.1.1/tcp/1'];
    expect(addresses.map(reachOf)).toEqual(['this machine', 'local network', 'internet']);
  });
});
