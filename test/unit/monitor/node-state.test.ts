import { describe, expect, it } from 'vitest';
import { describeNode, NOT_YET_CONNECTED, problemText } from '../../../monitor/node-state.ts';
import { outcomeText, placeText, placeTexts, totalsText } from '../../../monitor/node-work.ts';
import { exampleStatus } from '../../utils/swarm/node-status.ts';

const date = (at: number): string => `at ${at}`;
const options = { pause: null, shutOut: null, date };
const of = (changes: Parameters<typeof exampleStatus>[0], more: Partial<typeof options> & object = {}) =>
  describeNode(exampleStatus(changes), { ...options, ...more });

describe('the state of a node', () => {
  it('is its work, with the progress', () => {
    const now = expect.stringMatching(/^training round 21: .*\b5 of 8\b.*\b1,240 tokens\/s$/);
    expect(of({})).toEqual({ now, problem: null });
    const download = { what: 'base', bytes: 1_000_000, total: 4_000_000 } as const;
    expect(of({ state: 'joining', download }).now).toMatch(/\bbase\b.*\b25 %.*\b4\.0 MB$/);
    expect(of({ state: 'busy', reason: 'the trainer works for moby' })).toMatchObject({
      now: expect.stringContaining('moby'),
      problem: null,
    });
  });

  it('names the job that it joins; without a name, it says whether it waits for the next job', () => {
    const joining = { state: 'joining', job: null, reason: 'no open job', retrySeconds: 9 } as const;
    expect(of({ ...joining, jobName: 'moby', followsJobs: true }).now).toMatch(/\bmoby$/);
    expect(of({ ...joining, jobName: null, followsJobs: true }).now).toMatch(/\bnext\b/);
    expect(of({ ...joining, jobName: null, followsJobs: false }).now).not.toMatch(/\bnext\b/);
  });

  it('has the hold with its reason, and the advice to change it', () => {
    const reason = 'the job needs 3 GB (--max-disk)';
    const { now, problem } = of({ state: 'awaiting', hold: { reason: 'disk', detail: '' }, reason });
    expect(now).toBe('waiting');
    expect(problem).toEqual({ text: expect.stringMatching(/\w: the job needs 3 GB/), next: null });
    expect(problemText(problem!)).toContain('--max-disk');
  });

  it('names a pause with its end instead of a problem', () => {
    const pause = { reason: 'hours', text: 'outside of the hours', until: 7 } as const;
    const { now, problem } = of(
      { state: 'awaiting', hold: { reason: 'hours', detail: '' }, reason: pause.text },
      { pause } as object,
    );
    expect(now).toMatch(/paused.*at 7.*outside of the hours/);
    expect(problem).toBeNull();
  });

  it('has the time of the next attempt apart from the problem, because the time changes all the time', () => {
    const coordinator = {
      addresses: [],
      peer: null,
      connected: false,
      unreachable: { reason: 'refused', failures: 2, retrySeconds: 4 },
    };
    expect(of({ state: 'joining', job: null, coordinator, reason: 'refused' }).problem).toEqual({
      text: expect.stringContaining('refused'),
      next: expect.stringMatching(/3.*4/),
    });
    const refused = `could not connect to /ip4/127.0.0.1/tcp/4040/p2p/12D3KooW${'a'.repeat(44)}: connection refused`;
    const away = { ...coordinator, unreachable: { ...coordinator.unreachable, reason: refused } };
    expect(of({ coordinator: away }).problem?.text).toMatch(
      / \/ip4\/127\.0\.0\.1\/tcp\/4040: connection refused$/,
    );
    expect(of({ state: 'joining', job: null, reason: NOT_YET_CONNECTED }).problem).toBeNull();
    expect(of({ state: 'joining', reason: 'no engine', retrySeconds: 9 }).problem?.text).toContain(
      'no engine',
    );
  });

  it('after the job depends on whether the node goes on with the next job', () => {
    const over = { state: 'awaiting', done: true } as const;
    const nowIf = (followsJobs: boolean) => of({ ...over, followsJobs }).now;
    expect(nowIf(true)).toMatch(/\bnext job\b/);
    expect(nowIf(false)).toMatch(/^(?!.*\bnext job\b).*\S/);
  });

  it('is the refusal if the coordinator has shut the node out', () => {
    const shutOut = { code: 'BANNED', message: 'banned' };
    expect(of({ reason: 'x' }, { shutOut } as object)).toEqual({
      now: expect.stringMatching(/: banned$/),
      problem: null,
    });
  });
});

it('the work of a node is counted for its present jobs and for all jobs', () => {
  const work = { name: null, accepted: 1, refused: 0, tokens: 10, seconds: 1, contribution: null };
  const jobs = [{ job: { job: 'a' }, jobName: 'moby' }];
  expect(totalsText({ totals: [], jobs })).toHaveLength(1);
  expect(totalsText({ totals: [{ job: 'a', ...work }], jobs })).toHaveLength(1);
  const both = totalsText({
    totals: [
      { job: 'a', ...work },
      { job: 'b', ...work },
    ],
    jobs,
  });
  expect(both).toEqual([expect.stringContaining('1 round '), expect.stringMatching(/2 rounds.*2 jobs/)]);
  const waiting = [{ job: null, jobName: 'moby' }];
  const totals = [
    { ...work, job: 'a', name: 'moby' },
    { ...work, job: 'b' },
  ];
  expect(totalsText({ totals, jobs: waiting })[0]).toMatch(/^1 round/);
});

it.each([
  [1, '1st'],
  [2, '2nd'],
  [3, '3rd'],
  [4, '4th'],
  [11, '11th'],
  [1022, '1,022nd'],
])('the place %d among the contributors is the %s', (place, nth) => {
  const text = placeText({ round: 1, place, contributors: 2000, tokens: 1, totalTokens: 800 });
  expect(text).toMatch(new RegExp(`^${nth} of 2,000 .*0\\.1 %`));
});

it('the place of a node is unknown until the coordinator has answered', () => {
  const job = { job: 'a', checkpoint: { round: 7 } };
  const work = { name: null, accepted: 1, refused: 0, tokens: 10, seconds: 1 };
  const contribution = { round: 6, place: 2, contributors: 3, tokens: 1, totalTokens: 4 };
  const other = { ...work, job: 'b', contribution };
  expect(placeTexts(job, [{ ...work, job: 'a', contribution: null }, other])).toEqual([]);
  const known = [{ ...work, job: 'a', contribution }];
  expect(placeTexts(job, known)).toEqual([expect.stringContaining('25 %')]);
  expect(placeTexts(job, known, { ofCheckpoint: true })).toEqual([]);
  expect(placeTexts(null, known)).toEqual([]);
});

it.each([
  [{ code: null, outcome: null }, 'sent', /no receipt/],
  [{ code: 'accepted', outcome: null }, 'accepted', /^$/],
  [{ code: 'accepted', outcome: 'counted' }, 'accepted, merged', /^$/],
  [{ code: 'late', outcome: 'restored', detail: 'round 3' }, 'late', /round 3\W+\w/],
  // The meaning of the code names several reasons. The detail is the one that applies.
  [{ code: 'null-round', outcome: 'restored', detail: 'a pause' }, 'not merged', /^a pause; /],
  [{ code: 'null-round', outcome: 'restored' }, 'not merged', /^means; /],
] as const)('the outcome of an update %j is "%s"', (update, state, why) => {
  const text = outcomeText({
    meaning: update.code === null ? 'no receipt yet' : 'means',
    detail: '',
    ...update,
  });
  expect(text).toEqual({ state, why: expect.stringMatching(why) });
});
