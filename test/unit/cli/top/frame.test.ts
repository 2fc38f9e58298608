import { describe, expect, it } from 'vitest';
import { columnsOf } from '../../../../cli/node-screen/columns.ts';
import { Collector } from '../../../../cli/top/collect.ts';
import { frameLines } from '../../../../cli/top/frame.ts';
import { afterKey, keysIn } from '../../../../cli/top/keys.ts';
import { lossCurve } from '../../../../cli/top/loss-curve.ts';
import { FIRST_CHOICE, shownJob, type TopState } from '../../../../cli/top/state.ts';
import type { ApiClient, JobDetail, JobEvent, JobSummary, PeerView } from '../../../../index.ts';
import { differenceFromPage } from '../../../utils/shown-in-page.ts';
import { exampleStatus } from '../../../utils/swarm/node-status.ts';

const SIZE = { columns: 80, rows: 24 };
const JOB = 'ab'.repeat(32);

function peer(name: string, changes: Partial<PeerView> = {}): PeerView {
  return {
    peer: `12D3KooW${name.padStart(44, 'x')}`,
    name,
    person: name,
    role: 'contributor',
    job: JOB,
    jobName: 'moby',
    address: null,
    connected: true,
    state: 'training',
    hold: null,
    round: 21,
    step: 4,
    steps: 8,
    tokensPerSecond: 1234,
    engine: 'onnx-cpu',
    rttMs: 12,
    lastSeenSeconds: 1,
    stillSeconds: 1,
    health: { level: 'green', reason: 'training', next: '' },
    accepted: 20,
    refused: 1,
    unmerged: 0,
    tokens: 80_000,
    last: null,
    standing: 'good',
    strikes: 0,
    score: null,
    bytesSent: 0,
    bytesReceived: 0,
    ...changes,
  };
}

function summary(name: string, changes: Partial<JobSummary> = {}): JobSummary {
  return {
    job: JOB,
    name,
    phase: 'training',
    round: 21,
    rounds: 40,
    roundsDone: 20,
    secondsLeft: 18,
    peers: 3,
    baseLoss: 4,
    heldOutLoss: 2.95,
    checkpoint: { round: 20, digest: JOB },
    // A metric has chosen the best checkpoint, whose loss is not the lowest one.
    best: { round: 18, heldOutLoss: 2.97 },
    lowestLoss: 2.9,
    rolledBack: null,
    tokensPerSecond: 3456,
    reason: '',
    priority: 0,
    after: null,
    newestChange: null,
    tasks: null,
    isHeld: false,
    waitingNodes: [],
    needsOperator: false,
    pendingOrders: [],
    health: { level: 'green', reason: 'training', next: '' },
    invite: null,
    ...changes,
  };
}

const PEERS = [
  peer('brave-otter'),
  peer('quiet-heron', {
    health: { level: 'red', reason: 'training without progress for 6 min 0 s', next: '' },
  }),
  peer('lively-carp'),
];

function checkpoint(round: number, heldOutLoss: number): JobEvent {
  const facts = { digest: JOB, trainLoss: null, updates: 3, tokens: 9, updateBytes: 9, bytesPerParameter: 1 };
  const speed = { tokensPerSecond: 1000, seconds: 30, drift: null };
  return { sequence: round, at: 0, job: JOB, type: 'checkpoint', round, heldOutLoss, ...facts, ...speed };
}

function state(
  changes: Partial<TopState> = {},
  facts: Partial<Extract<TopState['facts'], { role: 'coordinator' }>> = {},
): TopState {
  const job = summary('moby') as JobDetail;
  const updates = { round: 21, assigned: PEERS.map((one) => one.peer), received: [PEERS[2]!.peer] };
  return {
    facts: {
      role: 'coordinator',
      status: {
        schemaVersion: 1,
        role: 'coordinator',
        peerId: `12D3KooW${'a'.repeat(44)}`,
        addresses: [],
        reach: [],
        version: '1.2.3',
        uptimeSeconds: 8040,
        traffic: { sent: 1_200_000, received: 400_000 },
        jobs: [
          job,
          summary('poem', {
            job: 'cd'.repeat(32),
            health: { level: 'grey', reason: 'finished', next: '' },
            phase: 'finished',
          }),
        ],
      },
      peers: PEERS,
      job: { ...job, updates },
      history: Array.from({ length: 20 }, (_, i) => checkpoint(i + 1, 3.9 - i / 20)),
      events: Array.from({ length: 40 }, (_, i) => ({ at: 0, text: `event ${i}` })),
      ...facts,
    },
    choice: FIRST_CHOICE,
    now: 0,
    failure: null,
    ...changes,
  };
}

const text = (one: TopState, size = SIZE): string[] => frameLines(one, size).map((line) => line.text);

describe('a frame of lora-swarm top', () => {
  it('shows jobs, alerts, loss and round of a coordinator on 80 × 24', () => {
    const lines = text(state());
    expect(lines).toHaveLength(24);
    expect(lines).toMatchInlineSnapshot(`
      [
        "coordinator …aaaaaaaa  v1.2.3  up 2 h 14 min                           00:00:00",
        "jobs",
        "> ● moby  training  20/40  loss 2.9500  lowest 2.9000  3,456 tokens/s  3 nodes",
        "  ○ poem  stopped   20/40  loss 2.9500  lowest 2.9000  3,456 tokens/s  3 nodes",
        "alerts",
        "  ■ quiet-heron …-heron in moby: training without progress for 6 min 0 s",
        "held-out loss of moby",
        "  4.0000 █▇▇▇▆▆▆▅▅▅▄▄▄▃▃▃▂▂▂▁▁ 2.9500",
        "round 21 of 40: training, 1 of 3 updates, at most 18 s left in the round",
        "  brave-otter …-otter        █████░░░░░ awaited: training 4/8, 1,234 tokens/s",
        "  quiet-heron …-heron        █████░░░░░ awaited: training 4/8, 1,234 tokens/s",
        "  lively-carp …y-carp        ██████████ delivered",
        "",
        "",
        "",
        "",
        "",
        "",
        "",
        "",
        "",
        "",
        "",
        "first letter: [overview] peers rounds events   j next job   ↑↓ scroll   q quit",
      ]
    `);
  });

  it('shows as many jobs as fit, and those with a round in progress first', async () => {
    const idle = [
      'waiting',
      'finished',
      'paused',
      'waiting',
      'queued',
      'finished',
      'paused',
      'waiting',
    ] as const;
    const phases = [...idle, 'training', 'committing'] as const;
    const jobs = phases.map((phase, i) => summary(`job-${i}`, { phase, job: `job-${i}` }));
    const { facts } = state();
    const api = {
      status: async () => ({ ...facts.status, jobs }),
      peers: async () => [],
      job: async (id: string) => ({
        ...jobs.find(({ job }) => job === id),
        updates: { round: 21, assigned: [], received: [] },
      }),
      events: async function* () {},
    } as unknown as ApiClient;
    const collector = new Collector({ now: () => 0, homeFlag: '' });
    const found = await collector.collect(api, 'coordinator', FIRST_CHOICE);
    const shown = (rows: number, choice = FIRST_CHOICE) =>
      text(state({ facts: found, choice }), { columns: 80, rows }).flatMap(
        (line) => /job-\d(?= )/.exec(line) ?? [],
      );
    const order = [8, 9, 0, 2, 3, 4, 6, 7, 1, 5].map((i) => `job-${i}`);
    expect(shown(24)).toEqual(order);
    expect(shown(10)).toEqual(order.slice(0, 4));
    expect(found).toMatchObject({ job: { job: 'job-8' } });
    const last = await collector.collect(api, 'coordinator', { ...FIRST_CHOICE, job: 'job-5' });
    expect(text(state({ facts: last }), { columns: 80, rows: 10 }).join('\n')).toMatch(/^> . job-5\b/m);
  });

  it('shows no progress of a node that has not begun the round', () => {
    const ended = { round: 20, step: 8, steps: 8 };
    const peers = [
      peer('brave-otter', { ...ended, state: 'awaiting' }),
      peer('quiet-heron', { ...ended, round: 21, state: 'syncing' }),
      peer('lively-carp', { ...ended, state: 'joining' }),
    ];
    const { facts } = state();
    if (facts.role !== 'coordinator') throw new Error('the state is not of a coordinator');
    const updates = { round: 21, assigned: peers.map((one) => one.peer), received: [] };
    const nodes = text(state({}, { peers, job: { ...facts.job!, updates } })).filter((line) =>
      /awaited/.test(line),
    );
    expect(nodes).toHaveLength(3);
    for (const line of nodes) expect(line).not.toContain('█');
    expect(nodes[1]).toContain('syncing');
  });

  it('looks like the frame in docs/monitoring.md', () => {
    const { facts } = state();
    if (facts.role !== 'coordinator') throw new Error('the state is not of a coordinator');
    const traffic = { sent: 29_000_000, received: 43_000 };
    const [brave, quiet, lively] = PEERS.map((one, i) => ({
      ...one,
      peer: `12D3KooW${'abc'[i]!.repeat(44)}`,
    }));
    const peers = [quiet!, { ...brave!, step: 5 }, lively!];
    const updates = { round: 21, assigned: peers.map(({ peer: id }) => id), received: [lively!.peer] };
    const job = { ...facts.job!, updates };
    const [moby, poem] = facts.status.jobs;
    const status = { ...facts.status, traffic, jobs: [moby!, { ...poem!, roundsDone: 40 }] };
    const shown = state({}, { status, peers, job });
    const lines = text(shown, { columns: 100, rows: 24 });
    expect(differenceFromPage('docs/monitoring.md', 'coordinator …', lines)).toBeNull();
  });

  it.each(['overview', 'peers', 'rounds', 'events'] as const)('fits %s into every size', (view) => {
    for (const columns of [1, 20, 80, 200]) {
      for (const rows of [1, 3, 5, 24, 100]) {
        const lines = text(state({ choice: { ...FIRST_CHOICE, view } }), { columns, rows });
        expect(lines.length).toBeLessThanOrEqual(rows);
        for (const line of lines) expect(columnsOf(line)).toBeLessThan(Math.max(2, columns));
      }
    }
  });

  it('shows hostile names and reasons as text', () => {
    const evil = '\u001b]0;owned\u0007\u001b[2J\u202eevil\n■ forged alert';
    const hostile = peer(evil, { health: { level: 'red', reason: evil, next: '' }, standing: 'good' });
    const events = [{ at: 0, text: evil }];
    for (const view of ['overview', 'peers', 'rounds', 'events'] as const) {
      const history = [{ ...checkpoint(1, 3), type: 'null-round', reason: evil } as unknown as JobEvent];
      const one = state(
        { choice: { ...FIRST_CHOICE, view }, failure: evil },
        { peers: [hostile], events, history },
      );
      for (const line of text(one)) expect(line).not.toMatch(/[\p{Cc}\u202e]/u);
      expect(text(one).filter((line) => line.startsWith('■ forged'))).toEqual([]);
    }
  });

  it('shows a list in parts that the user can scroll', () => {
    const first = text(state({ choice: { ...FIRST_CHOICE, view: 'events' } }));
    expect(first[2]).toContain('event 39');
    expect(first.at(-2)).toMatch(/^20 \D+$/);
    const later = text(state({ choice: { view: 'events', job: null, scroll: 5 } }));
    expect(later[2]).toContain('event 34');
    expect(later.at(-2)).toMatch(/^5 \D+, 15 \D+$/);
    const end = text(state({ choice: { view: 'events', job: null, scroll: 1000 } }));
    expect(end.at(-3)).toContain('event 0');
  });

  it('says that the facts are old if the daemon does not answer', () => {
    expect(text(state({ failure: 'no coordinator answers' }))[1]).toContain('no coordinator answers');
  });

  it('shows what a node shows itself, and its updates', () => {
    const facts = { role: 'node', status: exampleStatus(), timeLeft: [], homeFlag: '' } as const;
    const lines = text(state({ facts }));
    expect(lines.join('\n')).toMatch(/\b20 of 40 rounds\b.*\bmoby\b/);
    expect(lines.at(-1)).toContain('[overview] rounds');
    const updates = text(state({ facts, choice: { ...FIRST_CHOICE, view: 'rounds' } }));
    expect(updates.slice(1, 4)).toEqual([expect.stringMatching(/^round\b/), expect.stringMatching(/\S/), '']);
  });
});

describe('keys of lora-swarm top', () => {
  it('choose views and jobs, scroll and quit', () => {
    const one = state();
    expect(keysIn('p\u001b[A\u001b[6~\u0003')).toEqual(['p', '\u001b[A', '\u001b[6~', '\u0003']);
    expect(afterKey('e', FIRST_CHOICE, one)).toMatchObject({ view: 'events' });
    expect(afterKey('\u001b[B', FIRST_CHOICE, one)).toMatchObject({ scroll: 1 });
    expect(afterKey('\u001b[A', FIRST_CHOICE, one)).toMatchObject({ scroll: 0 });
    const next = afterKey('j', FIRST_CHOICE, one);
    expect(next).toMatchObject({ job: 'cd'.repeat(32) });
    expect(afterKey('\t', next as typeof FIRST_CHOICE, one)).toMatchObject({ job: JOB });
    expect(afterKey('x', FIRST_CHOICE, one)).toBe(FIRST_CHOICE);
    for (const key of ['q', '\u0003']) expect(afterKey(key, FIRST_CHOICE, one)).toBe('quit');
    const facts = { role: 'node', status: exampleStatus(), timeLeft: [], homeFlag: '' } as const;
    expect(afterKey('p', FIRST_CHOICE, { facts })).toBe(FIRST_CHOICE);
  });
});

describe('a loss curve', () => {
  it('stands between the first and the newest loss, and fits', () => {
    expect(lossCurve([4, 3, 2], 80)).toBe('4.0000 █▅▁ 2.0000');
    expect(lossCurve([2], 80)).toBe('2.0000 ▁ 2.0000');
    expect(lossCurve([], 80)).toMatch(/^[a-z ]+$/);
    const long = lossCurve(
      Array.from({ length: 10_000 }, (_, i) => 4 - i / 10_000),
      60,
    );
    expect(columnsOf(long)).toBe(60);
  });
});

it('shows the chosen job, or else the first job that has not ended', () => {
  const jobs = [summary('old', { job: 'old', phase: 'finished' }), summary('new', { job: 'new' })];
  expect(shownJob(jobs, { job: null })?.name).toBe('new');
  expect(shownJob(jobs, { job: 'old' })?.name).toBe('old');
  expect(shownJob(jobs.slice(0, 1), { job: null })?.name).toBe('old');
  expect(shownJob([], { job: null })).toBeUndefined();
});
