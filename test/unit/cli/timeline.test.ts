import { expect, it } from 'vitest';
import { chooseSubject, hasUpdate, type Sources, timeline } from '../../../cli/doctor/timeline.ts';
import { readEntry } from '../../../cli/logs/log-entry.ts';
import type { JobEvent, NodeUpdate, PeerReceipts } from '../../../index.ts';

const JOB = 'ab'.repeat(32);
const START = Date.parse('2026-11-28T14:00:00Z');
const UPDATE = 'cd'.repeat(32);

const log = (seconds: number, fields: object) =>
  readEntry(
    JSON.stringify({ level: 'info', time: new Date(START + 1000 * seconds).toISOString(), ...fields }),
  );

const update = (round: number, changes: Partial<NodeUpdate> = {}): NodeUpdate => ({
  ...{ job: JOB, round, update: UPDATE, bytes: 4096, code: 'accepted', detail: '', meaning: '' },
  ...{ outcome: 'counted', at: START + round * 60_000 },
  ...changes,
});

const receipts = (all: object[]): PeerReceipts =>
  ({
    peer: 'node',
    receipts: all,
    scores: [],
    standings: [],
    strikes: [],
    bans: [],
  }) as unknown as PeerReceipts;

const NOTHING: Sources = {
  peer: 'node',
  log: null,
  updates: [],
  receipts: null,
  events: [],
  answer: null,
  offsetMs: 0,
};
const SUBJECT = { job: JOB, jobName: 'moby', round: 2 };

it('is about the newest update that did not count, or else about the newest update', () => {
  const names = new Map([[JOB, 'moby']]);
  const round = (updates: NodeUpdate[], wanted?: number) =>
    chooseSubject({ updates, receipts: null }, names, wanted)?.round;
  const refused = update(2, { code: 'wrong-round' });
  expect(round([update(4), update(3), refused, update(1, { code: 'malformed' })])).toBe(2);
  expect(round([update(4), update(3, { outcome: 'restored' })])).toBe(3);
  expect(round([update(3), update(4)])).toBe(4);
  expect(round([update(4), update(3)], 3)).toBe(3);
  expect(round([update(4)], 9)).toBeUndefined();
  const received = receipts([{ job: JOB, jobName: 'tale', round: 5, code: 'harmful', at: START }]);
  expect(chooseSubject({ updates: [], receipts: received }, new Map(), undefined)).toEqual({
    job: JOB,
    jobName: 'tale',
    round: 5,
  });
});

it('joins the log of the node and the record of the coordinator by time', () => {
  const event = (seconds: number, body: object) =>
    ({ sequence: 1, at: START + 1000 * seconds, job: JOB, ...body }) as unknown as JobEvent;
  const sources: Sources = {
    ...NOTHING,
    updates: [update(2, { code: 'wrong-round', at: START + 11_000 })],
    log: [
      log(-300, { msg: 'too-early' }),
      log(1, { msg: 'round-trained', round: 2, steps: 8, job: JOB.slice(0, 12) }),
      log(5, { level: 'warn', msg: 'payload-failed', reason: 'no answer' }),
      log(6, { msg: 'elsewhere', job: 'ef'.repeat(32) }),
      log(6, { msg: 'round-trained', round: 2, job: 'ef'.repeat(32) }),
      log(7, { msg: 'round-trained', round: 3 }),
      log(14, { msg: 'receipt-arrived', update: UPDATE, code: 'wrong-round' }),
      readEntry('{"cut'),
    ],
    receipts: receipts([
      { job: JOB, jobName: 'moby', round: 2, code: 'wrong-round', detail: 'closed', at: START + 13_000 },
      { job: JOB, jobName: 'moby', round: 1, code: 'accepted', detail: '', at: START },
    ]),
    events: [
      event(0, { type: 'round-opened', round: 2, peers: 3 }),
      event(9, { type: 'update', round: 2, peer: 'another', code: 'malformed', detail: '' }),
      event(10, { type: 'round-closed', round: 2, updates: 2, assigned: 3, cause: 'deadline' }),
      event(12, { type: 'update', round: 2, peer: 'node', code: 'wrong-round', detail: 'closed' }),
      event(20, { type: 'paused', reason: 'lunch' }),
      event(400, { type: 'resumed' }),
    ],
  };
  const entries = timeline(SUBJECT, sources);
  const shown = entries.map(({ at, source, text }) => [
    (at! - START) / 1000,
    source,
    text.split(/[\s,]/).slice(0, 2).join(' ').trim(),
  ]);
  expect(shown).toEqual([
    [0, 'coordinator', expect.any(String)],
    [1, 'node', 'round-trained'],
    [5, 'node', 'warn payload-failed'],
    [10, 'coordinator', expect.any(String)],
    [11, 'node', 'record: update'],
    [12, 'coordinator', expect.any(String)],
    [13, 'coordinator', 'record: receipt'],
    [14, 'node', 'receipt-arrived'],
    [20, 'coordinator', expect.any(String)],
  ]);
  expect(entries.find(({ text }) => text.startsWith('warn'))!.text).toContain('reason no answer');
});

it('has only entries of the job, also if the node had a round of the same number in another job', () => {
  const other = 'ef'.repeat(32);
  const sources: Sources = {
    ...NOTHING,
    updates: [update(2, { job: other, update: 'ee'.repeat(32), at: START - 1_200_000 })],
    log: [
      log(-1201, { msg: 'older-without-job', round: 2 }),
      log(-1200, { msg: 'update-built', round: 2, update: 'ee'.repeat(32), job: other }),
      log(-600, { msg: 'node-started' }),
      log(0, { msg: 'round-trained', round: 2, job: JOB }),
      log(2, { msg: 'near-without-job', round: 2 }),
      log(3, { msg: 'receipt-arrived', round: 2, job: other }),
      log(4, { msg: 'peer-unreachable' }),
    ],
  };
  const texts = (all: Sources) => timeline(SUBJECT, all).map(({ text }) => text);
  expect(texts(sources)).toEqual(['round-trained', 'near-without-job', 'peer-unreachable']);
  expect(hasUpdate(SUBJECT, sources)).toBe(false);
  const built = [log(1, { msg: 'update-built', round: 2, job: JOB })];
  expect(hasUpdate(SUBJECT, { ...sources, log: built })).toBe(true);
  const receipt = { code: 'accepted' as const, detail: '', at: START };
  expect(hasUpdate(SUBJECT, { ...sources, answer: { receipt, figures: null } })).toBe(true);
  expect(hasUpdate(SUBJECT, { ...sources, updates: [update(2)] })).toBe(true);
});

it('shows the answer of a coordinator on another machine at the time of this machine', () => {
  const figures = {
    ...{ merge: 2, effect: 0.01, gain: null, share: 0.25, belief: 0.5 },
    harmful: true,
    audit: 'failed' as const,
  };
  const receipt = { code: 'harmful' as const, detail: '', at: START + 3_600_000 };
  const entries = timeline(SUBJECT, {
    ...NOTHING,
    log: [],
    updates: [update(2, { at: START })],
    answer: { receipt, figures },
    offsetMs: 3_600_000 - 1_000,
  });
  expect(entries.map(({ at, source }) => [at === null ? null : at - START, source])).toEqual([
    [0, 'node'],
    [1_000, 'coordinator'],
    [null, 'coordinator'],
  ]);
  expect(entries.at(-1)!.text).toMatch(/effect 0\.0100, share 0\.250, belief 0\.50.*harmful.*audit failed/);
});

it('has the reason of the operator for a roll-back that ended the round', () => {
  const events = [
    { type: 'null-round', round: 2, reason: 'the operator rolled the job back' },
    { type: 'rolled-back', round: 3, to: 1, heldOutLoss: 2, lossBefore: 3, reason: 'it repeats itself' },
    { type: 'null-round', round: 3, reason: 'too few updates' },
  ].map((event, i) => ({ sequence: i, at: START + i, job: JOB, ...event })) as unknown as JobEvent[];
  const texts = timeline(SUBJECT, { ...NOTHING, events }).map(({ text }) => text);
  expect(texts).toEqual([
    expect.stringContaining('rolled the job back'),
    expect.stringContaining('it repeats itself'),
  ]);
});

it('shows texts of peers without control characters', () => {
  const events = [
    { sequence: 1, at: START, job: JOB, type: 'update', round: 2, peer: 'node', code: 'malformed' },
  ].map((event) => ({ ...event, detail: '\u001b[31mred\nswarm: all is well' })) as unknown as JobEvent[];
  const [entry] = timeline(SUBJECT, { ...NOTHING, events });
  expect(entry!.text).not.toMatch(/\p{Cc}/u);
});
