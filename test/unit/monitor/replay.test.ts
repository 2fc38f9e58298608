import { expect, it } from 'vitest';
import { momentLines } from '../../../cli/views/moment.ts';
import {
  atTime,
  bannedPeers,
  type JobMoment,
  momentAfter,
  NO_MOMENT,
  STATE_EVENTS,
  whyNotMerged,
} from '../../../monitor/replay.ts';
import { momentBefore, RoundEnd } from '../../../monitor/round-end.ts';
import type { JobEvent, JobEventBody } from '../../../protocol/api/job-events.ts';

const update = (round: number, peer: string, code: string, detail = ''): JobEventBody =>
  ({ type: 'update', round, peer, code, detail }) as JobEventBody;
const checkpoint = (round: number, heldOutLoss: number | null): JobEventBody =>
  ({ type: 'checkpoint', round, heldOutLoss }) as JobEventBody;
const opened = (round: number): JobEventBody => ({
  type: 'round-opened',
  round,
  peers: 2,
  preset: 'dense',
  deadlineMs: 1,
});

const STORY: readonly JobEventBody[] = [
  { type: 'job-created', name: 'toy', parameters: 1, rounds: 2 },
  { type: 'peer-joined', peer: 'p1', name: 'otter', engine: '' },
  { type: 'peer-joined', peer: 'p2', name: 'heron', engine: '' },
  opened(1),
  update(1, 'p1', 'accepted'),
  update(1, 'p2', 'bad-payload'),
  { type: 'round-closed', round: 1, updates: 1, assigned: 2, cause: 'deadline' },
  checkpoint(1, 3),
  { type: 'banned', peer: 'p2', cause: 'operator', reason: '', until: null },
  { type: 'peer-lost', peer: 'p2', name: 'heron', reason: 'banned' },
  opened(2),
  update(1, 'p2', 'late'),
  { type: 'null-round', round: 2, reason: 'too few updates' },
  opened(3),
  checkpoint(3, 3.5),
  { type: 'rolled-back', round: 4, to: 1, digest: '', heldOutLoss: 3, lossBefore: 3.5, reason: '' },
  { type: 'paused', reason: 'lunch' },
  { type: 'pardoned', peer: 'p2', strikes: 0, bans: 1 },
  { type: 'resumed' },
  { type: 'finished', round: 4, heldOutLoss: 3, baseLoss: 4 },
];

/** Returns the moments after each event. Event number n happened n seconds after 1970. */
function moments(bodies: readonly JobEventBody[]): JobMoment[] {
  let state = NO_MOMENT;
  return bodies.map((body, i) => {
    state = momentAfter(state, { sequence: i + 1, at: (i + 1) * 1000, job: 'a', ...body } as JobEvent);
    return state;
  });
}

it('counts a node that takes no work as present from the moment when it joined', () => {
  const held = { type: 'peer-held', peer: 'p1', name: 'otter', reason: 'disk', detail: '' } as const;
  expect(moments([held])[0]!.present.size).toBe(0);
  expect([...moments([{ ...held, joined: true }])[0]!.present]).toEqual([['p1', 'otter']]);
});

it('tells the state of a job at each past moment', () => {
  const all = moments(STORY);
  expect(all[5]).toMatchObject({
    phase: 'training',
    round: 1,
    assigned: 2,
    updates: [
      { peer: 'p1', code: 'accepted' },
      { peer: 'p2', code: 'bad-payload' },
    ],
    checkpoint: null,
  });
  expect([...all[5]!.present]).toEqual([
    ['p1', 'otter'],
    ['p2', 'heron'],
  ]);
  expect(all[7]).toMatchObject({ phase: 'waiting', checkpoint: { round: 1, heldOutLoss: 3 }, roundsDone: 1 });
  expect([...all[9]!.present.keys()]).toEqual(['p1']);
  expect(bannedPeers(all[9]!)).toEqual(['p2']);
  // A late update of round 1 is not one of round 2.
  expect(all[11]).toMatchObject({ round: 2, updates: [] });
  expect(all[12]).toMatchObject({ reason: 'too few updates' });
  expect(all[14]).toMatchObject({ checkpoint: { round: 3 }, lowestLoss: 3, roundsDone: 2 });
  expect(all[15]).toMatchObject({ checkpoint: { round: 4, heldOutLoss: 3 }, lowestLoss: 3 });
  expect(all[16]).toMatchObject({ phase: 'paused', reason: 'lunch' });
  expect(all[17]!.bans).toEqual([]);
  expect(all[18]).toMatchObject({ phase: 'waiting', reason: '' });
  expect(all.at(-1)).toMatchObject({ phase: 'finished', sequence: 20, at: 20_000 });
});

it('shows a ban until it ends, and as long as another ban of the peer is in force', () => {
  const ban = { type: 'banned', peer: 'p1', cause: 'strikes', reason: '', scope: 'job' } as const;
  const all = moments([
    { ...ban, until: 2500 },
    { ...ban, until: 3500 },
    { ...ban, peer: 'p2', until: null },
    opened(1),
  ]);
  expect(all.map(bannedPeers)).toEqual([['p1'], ['p1'], ['p1', 'p2'], ['p2']]);
  expect(bannedPeers(atTime(all[2]!, 3499))).toEqual(['p1', 'p2']);
  expect(bannedPeers(atTime(all[2]!, 3500))).toEqual(['p2']);
  // A job can have many bans, and many more events. An event about something else must not walk through all bans.
  expect(all[3]!.bans).toBe(all[2]!.bans);
});

it('shows a ban from all jobs after a pardon in one job', () => {
  const ban = { type: 'banned', peer: 'p1', cause: 'operator', reason: '', until: null } as const;
  const pardon = { type: 'pardoned', peer: 'p1', strikes: 0, bans: 1 } as const;
  const after = (...bodies: JobEventBody[]) => bannedPeers(moments(bodies).at(-1)!);
  const both: JobEventBody[] = [
    { ...ban, scope: 'job' },
    { ...ban, scope: 'all-jobs' },
  ];
  expect(after(...both, { ...pardon, scope: 'job' })).toEqual(['p1']);
  expect(after(...both, { ...pardon, scope: 'all-jobs' })).toEqual([]);
  expect(after({ ...ban, scope: 'job' }, { ...pardon, scope: 'job' })).toEqual([]);
  expect(after(ban, pardon), 'events of an older version').toEqual([]);
});

it('tells a job that its operator stopped from a finished one', () => {
  const end = { type: 'finished', round: 4, heldOutLoss: 3, baseLoss: 4 } as const;
  expect(moments([{ ...end, stopReason: 'enough' }])[0]).toMatchObject({
    phase: 'stopped',
    reason: 'enough',
  });
  expect(moments([{ ...end, stopReason: '' }])[0]).toMatchObject({ phase: 'stopped', reason: '' });
});

it('is shown with hostile names as text', () => {
  const evil = '\u001b[31mevil\nforged';
  const [, , last] = moments([
    { type: 'peer-joined', peer: 'p1', name: evil, engine: '' },
    opened(1),
    update(1, 'p1', 'accepted'),
  ]);
  const lines = momentLines('toy', last!);
  expect(lines.join('')).not.toMatch(/\p{Cc}/u);
  expect(lines).toContainEqual(expect.stringMatching(/^round .*\b1 of 2 updates\b/));
  expect(momentLines('toy', NO_MOMENT)).toEqual([expect.stringContaining('toy')]);
});

it('takes an update that was undone out of the accepted ones', () => {
  const all = moments([
    { type: 'peer-joined', peer: 'p1', name: 'otter', engine: '' },
    opened(1),
    update(1, 'p1', 'bad-payload'),
    update(1, 'p1', 'accepted'),
    update(1, 'p2', 'accepted'),
    { type: 'update-undone', round: 1, peer: 'p1', code: 'outlier', detail: '' },
    { type: 'update-undone', round: 0, peer: 'p2', code: 'null-round', detail: '' },
  ]);
  expect(all.at(-1)!.updates).toEqual([
    { peer: 'p1', name: 'otter', code: 'bad-payload', detail: '' },
    { peer: 'p1', name: 'otter', code: 'outlier', detail: '' },
    { peer: 'p2', name: '', code: 'accepted', detail: '' },
  ]);
  const lines = momentLines('toy', all.at(-1)!);
  expect(lines).toContainEqual(expect.stringMatching(/^round .*\b1 of 2 updates\b/));
  expect(lines).toContainEqual(expect.stringMatching(/ otter p1: outlier$/));
});

it('names the node of an update that was not merged, and the reason, also after the node has left', () => {
  const all = moments([
    { type: 'peer-joined', peer: 'p1', name: 'otter', engine: '' },
    { type: 'peer-joined', peer: 'p2', name: 'heron', engine: '' },
    opened(1),
    update(1, 'p1', 'accepted'),
    update(1, 'p2', 'too-large', 'it has\n9 bytes'),
    { type: 'update-undone', round: 1, peer: 'p1', code: 'null-round', detail: 'the job was paused' },
    { type: 'peer-lost', peer: 'p1', name: 'otter', reason: 'left' },
  ]);
  const lines = momentLines('toy', all.at(-1)!);
  expect(lines).toContainEqual(expect.stringMatching(/ otter p1: the job was paused$/));
  expect(lines).toContainEqual(expect.stringMatching(/ heron p2: too-large: it has 9 bytes$/));
  // An event of version 0.1.0 does not say which of the two causes of the code applies.
  expect(whyNotMerged({ code: 'null-round', detail: '' })).toMatch(/without a merge.*too late/);
});

it('goes on after the newest checkpoint when a coordinator has caught up with its nodes', () => {
  const caughtUp = { type: 'caught-up', before: 1, round: 9, term: 2, checkpoints: 5, missing: 1 } as const;
  const now = { heldOutLoss: 2, roundsDone: 7, phase: 'waiting', peer: 'p1' } as const;
  const before: JobEventBody[] = [opened(1), checkpoint(1, 3), opened(2), update(2, 'p1', 'accepted')];
  expect(moments([...before, { ...caughtUp, ...now }]).at(-1)).toMatchObject({
    phase: 'waiting',
    round: 9,
    assigned: 0,
    updates: [],
    checkpoint: { round: 9, heldOutLoss: 2 },
    lowestLoss: 2,
    roundsDone: 7,
  });
  expect(moments([...before, { ...caughtUp, ...now, phase: 'finished' }]).at(-1)!.phase).toBe('finished');
});

it('follows from fewer events at the beginning of a round, because the updates of earlier rounds do not matter', () => {
  const types: readonly string[] = STATE_EVENTS;
  const shown = STORY.slice(0, STORY.findLastIndex(({ type }) => type === 'round-opened') + 1);
  const facts = ({ sequence: _, at: __, openedAt: ___, ...rest }: JobMoment) => rest;
  expect(facts(moments(shown.filter(({ type }) => types.includes(type))).at(-1)!)).toEqual(
    facts(moments(shown).at(-1)!),
  );
  const all = moments(STORY);
  const changes = STORY.filter((_, i) => i > 0 && facts(all[i]!).phase !== facts(all[i - 1]!).phase);
  for (const { type } of changes) expect(types).toContain(type);
});

/** Returns the state at the end of a round. The events have the given times. */
function atEndOf(round: number, timed: readonly (readonly [at: number, body: JobEventBody])[]): JobMoment {
  const end = new RoundEnd(round);
  let moment = NO_MOMENT;
  for (const [i, [at, body]] of timed.entries()) {
    const event = { sequence: i + 1, at, job: 'a', ...body } as JobEvent;
    if (end.isPassedBy(event)) return momentBefore(event, moment);
    moment = momentAfter(moment, event);
  }
  return moment;
}

it('ends a round with the job in training if the next round opens at once, and waiting if it does not', () => {
  const first = [
    [10, opened(1)],
    [20, update(1, 'p1', 'accepted')],
    [30, checkpoint(1, 3)],
  ] as const;
  const end = { round: 1, sequence: 3, updates: [{ peer: 'p1' }], checkpoint: { round: 1 } };
  const next = expect.stringMatching(/\b2\b/);
  expect(atEndOf(1, [...first, [30, opened(2)]])).toMatchObject({ ...end, phase: 'training', reason: next });
  const waiting = { ...end, phase: 'waiting', reason: '' };
  expect(atEndOf(1, [...first, [31, opened(2)]])).toMatchObject(waiting);
  expect(atEndOf(1, first)).toMatchObject(waiting);
  // What followed later, such as a pause until the next day, is not the end of the round.
  const paused: JobEventBody = { type: 'paused', reason: 'lunch' };
  expect(atEndOf(1, [...first, [40, paused], [90, { type: 'resumed' }], [90, opened(2)]])).toMatchObject(
    waiting,
  );
  expect(atEndOf(1, [...first, [30, paused], [90, { type: 'resumed' }]])).toMatchObject({ phase: 'paused' });
  expect(atEndOf(2, [...first, [30, opened(2)], [35, update(2, 'p1', 'late')]])).toMatchObject({
    sequence: 5,
  });
});
