import { describe, expect, it } from 'vitest';
import {
  HEALTH_RULES,
  type JobFacts,
  jobHealth,
  type PeerFacts,
  peerHealth,
  SHORT_ROUNDS,
  SLOW_RTT_MS,
  SLOW_SECONDS,
  STUCK_SECONDS,
} from '../../../monitor/health-rules.ts';

const peer: PeerFacts = {
  state: 'training',
  standing: 'good',
  hold: null,
  stillSeconds: 1,
  lastSeenSeconds: 1,
  rttMs: 40,
  refusal: null,
};
const job: JobFacts = {
  rounds: 4,
  roundsDone: 2,
  phase: 'training',
  reason: '',
  pausedItself: false,
  shortRounds: 0,
  refusals: 0,
  heldOutLoss: 4,
  lowestLoss: 4,
};

describe('the health of a peer', () => {
  it('is green while it works or waits for the next round', () => {
    expect(peerHealth(peer).level).toBe('green');
    expect(peerHealth({ ...peer, state: 'awaiting', stillSeconds: 10 * STUCK_SECONDS }).level).toBe('green');
  });

  it.each(['joining', 'syncing', 'training', 'publishing'])(
    'is not green for a peer that is stuck in %s',
    (state) => {
      const at = (stillSeconds: number) => peerHealth({ ...peer, state, stillSeconds }).level;
      expect([at(SLOW_SECONDS - 1), at(SLOW_SECONDS), at(STUCK_SECONDS - 1), at(STUCK_SECONDS)]).toEqual([
        'green',
        'yellow',
        'yellow',
        'red',
      ]);
    },
  );

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
    expect(jobHealth({ ...job, shortRounds: 1 }).reason).toMatch(/^the newest round /);
    expect(jobHealth({ ...job, shortRounds: 2 }).reason).toMatch(/^2 rounds in a row /);
    expect(level({ refusals: 1 })).toBe('yellow');
    expect(level({ heldOutLoss: 4.03 })).toBe('green');
    expect(level({ heldOutLoss: 4.05 })).toBe('yellow');
    expect(level({ heldOutLoss: null, lowestLoss: null })).toBe('green');
  });
});

it('every list of rules ends with the one for everything else', () => {
  for (const rules of Object.values(HEALTH_RULES)) expect(rules.at(-1)!.level).toBe('green');
});
