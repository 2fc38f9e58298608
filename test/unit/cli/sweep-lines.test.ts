import { expect, it } from 'vitest';
import { wordsOf } from '../../../cli/options/target.ts';
import { sweepInviteLines, sweepLines } from '../../../cli/views/sweeps.ts';
import { unmeasuredError } from '../../../coordinator/jobs/sweeps.ts';
import type { SweepJobView, SweepView } from '../../../index.ts';
import { encodeInvite } from '../../../protocol/access/invite.ts';

const job = (name: string, facts: Partial<SweepJobView> = {}): SweepJobView => ({
  job: name,
  name,
  variant: '',
  phase: 'training',
  rounds: 8,
  checkpoints: 1,
  heldOutLoss: 2,
  lossAfter: 1,
  outAt: null,
  pauseReason: null,
  ...facts,
});
const sweep: SweepView = {
  name: 'race',
  nextRounds: 2,
  winner: null,
  error: null,
  jobs: [
    job('a'),
    job('b', { phase: 'paused', pauseReason: 'the disk is \u001b[1mfull' }),
    job('c', { phase: 'finished', outAt: 1, heldOutLoss: null }),
    job('d', { phase: 'finished', outAt: 1, checkpoints: 4 }),
  ],
};

it('shows why a sweep waits for a job, and what its operator can do', () => {
  const lines = sweepLines([sweep]);
  expect(lines.at(-1)).toMatch(/\bb\b.*disk is .*full.*job resume b\b.*job stop b\b/);
  expect(lines.join()).not.toContain('\u001b');
  expect(lines.find((line) => line.startsWith('c '))).toContain('dropped');
  const lost = lines.find((line) => line.startsWith('d '));
  expect(lost).toMatch(/stopped +4 +2\.0000 \S+ 1 +\S.*\b1$/);
});

it('shows the error of a sweep that has failed', () => {
  const error = unmeasuredError('race').toJSON();
  expect(sweepLines([{ ...sweep, error }])[0]).toContain(error.message);
});

it('fits into 80 and 110 columns', () => {
  const variant = 'training.optimizer.learningRate = 0.00025, lora.rank = 32';
  const jobs = sweep.jobs.map((one) => ({ ...one, name: `rates-${one.name}`, variant }));
  for (const columns of [80, 110]) {
    const lines = sweepLines([{ ...sweep, jobs }], columns).filter((line) => !line.includes('job resume'));
    for (const line of lines) expect(line.length, line).toBeLessThanOrEqual(columns);
    expect(lines.join('\n')).toMatch(/lora\.rank/);
  }
});

it('says after which checkpoint a loss was measured, also in 80 columns', () => {
  const jobs = sweep.jobs.map((one) => ({
    ...one,
    name: `rates-${one.name}`,
    variant: 'learningRate = 0.002',
  }));
  const lines = sweepLines([{ ...sweep, jobs }], 80);
  expect(lines.find((line) => line.startsWith('rates-d'))).toMatch(/ 2\.0000 \S+ 1 /);
});

it('each invite of a sweep names its job, and a node reads the lines', () => {
  const invites = ['race-1', 'race-2'].map((name) => ({
    name,
    invite: encodeInvite({
      addresses: [`/ip4/192.0.2.1/tcp/4040/p2p/12D3KooW${'A'.repeat(44)}`],
      job: null,
      token: name,
    }),
  }));
  const lines = sweepInviteLines(invites);
  expect(lines.map((line) => wordsOf(line))).toEqual(invites.map(({ invite }) => [invite]));
  for (const [i, { name }] of invites.entries()) expect(lines[i]).toContain(name);
});
