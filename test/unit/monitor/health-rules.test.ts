import { describe, expect, it } from 'vitest';
import { alertsOf, inJob } from '../../../monitor/alerts.ts';
import { HEALTH_RULES } from '../../../monitor/health-rules.ts';
import {
  type JobFacts,
  jobHealth,
  LATE_TIMER_SECONDS,
  SHORT_ROUNDS,
  SLOW_MERGE_SECONDS,
  STUCK_MERGE_SECONDS,
} from '../../../monitor/job-health.ts';
import {
  BUSY_SECONDS,
  type PeerFacts,
  peerHealth,
  SLOW_RTT_MS,
  SLOW_SECONDS,
  STUCK_JOINING_SECONDS,
  STUCK_SECONDS,
} from '../../../monitor/peer-health.ts';

const peer: PeerFacts = {
  state: 'training',
  standing: 'good',
  hold: null,
  stillSeconds: 1,
  awaitedSeconds: null,
  lastSeenSeconds: 1,
  rttMs: 40,
  refusal: null,
};
it('a lost peer that the coordinator refuses because of its clock waits for its owner', () => {
  const lost = { ...peer, state: 'lost' };
  expect(peerHealth(lost)).toMatchObject({ level: 'red' });
  const hold = 'the clock of the machine is wrong';
  expect(peerHealth({ ...lost, hold })).toMatchObject({
    level: 'yellow',
    reason: expect.stringContaining(hold),
  });
});

it('an alert about a peer without a job names no job', () => {
  expect([inJob('moby'), inJob('')]).toEqual([' in moby', '']);
});

const job: JobFacts = {
  round: 3,
  rounds: 4,
  roundsDone: 2,
  phase: 'training',
  mergeSeconds: 0,
  lateSeconds: 0,
  reason: '',
  pausedItself: false,
  shortRounds: 0,
  refusals: 0,
  heldOutLoss: 4,
  lowestLoss: 4,
};

describe('the health of a peer', () => {
  it('is green although its round was dropped, and says why the update was not merged', () => {
    const unmerged = 'the job was paused';
    for (const state of ['awaiting', 'training', 'busy']) {
      const mark = peerHealth({ ...peer, state, unmerged });
      expect(mark).toEqual({ level: 'green', reason: expect.stringContaining(unmerged), next: '' });
    }
    expect(peerHealth({ ...peer, refusal: unmerged }).level).toBe('yellow');
  });

  it('is green while it works or waits for the next round', () => {
    expect(peerHealth(peer).level).toBe('green');
    expect(peerHealth({ ...peer, state: 'awaiting', stillSeconds: 10 * STUCK_SECONDS }).level).toBe('green');
  });

  it.each([
    ['joining', STUCK_JOINING_SECONDS],
    ['syncing', STUCK_SECONDS],
    ['training', STUCK_SECONDS],
    ['publishing', STUCK_SECONDS],
  ])('is not green for a peer that is stuck in %s', (state, stuckSeconds) => {
    const at = (stillSeconds: number) => peerHealth({ ...peer, state, stillSeconds }).level;
    expect([at(SLOW_SECONDS - 1), at(SLOW_SECONDS), at(stuckSeconds - 1), at(stuckSeconds)]).toEqual([
      'green',
      'yellow',
      'yellow',
      'red',
    ]);
  });

  it('is not red while its trainer works for another job, and not green for ever', () => {
    const busy = { ...peer, state: 'busy' };
    const at = (stillSeconds: number) => peerHealth({ ...busy, stillSeconds }).level;
    expect([at(STUCK_SECONDS), at(BUSY_SECONDS - 1), at(BUSY_SECONDS), at(100 * BUSY_SECONDS)]).toEqual([
      'green',
      'green',
      'yellow',
      'yellow',
    ]);
    expect(peerHealth({ ...busy, awaitedSeconds: STUCK_SECONDS }).level).toBe('green');
    expect(peerHealth({ ...busy, stillSeconds: BUSY_SECONDS, standing: 'suspended' }).level).toBe('red');
  });

  it('is not green for a peer that does not begin its work in the open round', () => {
    const at = (stillSeconds: number, awaitedSeconds: number | null) =>
      peerHealth({ ...peer, state: 'awaiting', stillSeconds, awaitedSeconds }).level;
    expect(at(SLOW_SECONDS, SLOW_SECONDS)).toBe('yellow');
    expect(at(STUCK_SECONDS, STUCK_SECONDS)).toBe('red');
    // The peer waited for the round, which has only just opened.
    expect(at(STUCK_SECONDS, 1)).toBe('green');
    expect(at(STUCK_SECONDS, null)).toBe('green');
  });

  it('follows the first rule that applies', () => {
    const level = (facts: Partial<PeerFacts>) => peerHealth({ ...peer, ...facts }).level;
    expect(level({ state: 'lost' })).toBe('red');
    expect(level({ state: 'left' })).toBe('grey');
    expect(level({ state: 'lost', standing: 'banned' })).toBe('grey');
    expect(level({ state: 'lost', isJobOver: true })).toBe('grey');
    expect(level({ standing: 'suspended' })).toBe('red');
    expect(level({ standing: 'probation' })).toBe('yellow');
    expect(level({ refusal: 'too large' })).toBe('yellow');
    expect(level({ hold: 'the disk is full' })).toBe('yellow');
    expect(level({ rttMs: SLOW_RTT_MS })).toBe('yellow');
  });
});

describe('the health of a job', () => {
  it('follows the first rule that applies', () => {
    const level = (facts: Partial<JobFacts>) => jobHealth({ ...job, ...facts }).level;
    expect(level({})).toBe('green');
    expect(level({ phase: 'finished', shortRounds: 5 })).toBe('grey');
    expect(jobHealth({ ...job, phase: 'finished' }).reason).toBe('stopped');
    expect(jobHealth({ ...job, phase: 'finished', roundsDone: 4 }).reason).toBe('finished');
    expect(level({ phase: 'queued' })).toBe('grey');
    expect(level({ phase: 'paused' })).toBe('grey');
    expect(level({ phase: 'paused', pausedItself: true })).toBe('red');
    expect(level({ phase: 'waiting' })).toBe('yellow');
    expect(level({ shortRounds: SHORT_ROUNDS - 1 })).toBe('yellow');
    expect(level({ shortRounds: SHORT_ROUNDS })).toBe('red');
    const paused = (pausedItself: boolean) =>
      jobHealth({ ...job, phase: 'paused', reason: 'lunch', pausedItself }).reason;
    expect([paused(false), paused(true)]).toEqual(Array(2).fill(expect.stringMatching(/: lunch$/)));
    expect(paused(false)).not.toBe(paused(true));
    expect(jobHealth({ ...job, phase: 'finished', reason: 'enough' }).reason).toBe('stopped: enough');
    expect(jobHealth({ ...job, shortRounds: 1 }).reason).not.toMatch(/\d/);
    expect(jobHealth({ ...job, shortRounds: 2 }).reason).toMatch(/^2 rounds\b/);
    expect(level({ refusals: 1 })).toBe('yellow');
    const merge = (mergeSeconds: number) => level({ phase: 'validating', mergeSeconds });
    expect([merge(SLOW_MERGE_SECONDS - 1), merge(SLOW_MERGE_SECONDS)]).toEqual(['green', 'yellow']);
    expect(merge(STUCK_MERGE_SECONDS)).toBe('red');
    expect(level({ lateSeconds: LATE_TIMER_SECONDS })).toBe('green');
    expect(level({ lateSeconds: LATE_TIMER_SECONDS + 1 })).toBe('red');
    expect(level({ heldOutLoss: 4.03 })).toBe('green');
    expect(level({ heldOutLoss: 4.05 })).toBe('yellow');
    expect(level({ heldOutLoss: null, lowestLoss: null })).toBe('green');
  });
});

it('every list of rules ends with the one for everything else, and says what to do about yellow and red', () => {
  for (const rules of Object.values(HEALTH_RULES)) {
    expect(rules.at(-1)!.level).toBe('green');
    for (const { level, next } of rules) expect(next !== '').toBe(level === 'yellow' || level === 'red');
  }
});

it('alerts name what is not healthy, jobs first', () => {
  const bad = jobHealth({ ...job, shortRounds: 1 });
  const lost = { jobName: 'a', health: peerHealth({ ...peer, state: 'lost' }) };
  const well = { jobName: 'a', health: peerHealth(peer) };
  expect(alertsOf([{ name: 'b', health: bad }], [well, lost])).toMatchObject([
    { level: 'yellow', job: 'b', peer: null, reason: bad.reason },
    { level: 'red', job: 'a', peer: lost, next: expect.stringContaining('doctor') },
  ]);
});
