import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { createProgram } from '../../../cli/program.ts';
import { answeringCoordinator } from '../../utils/answering-coordinator.ts';
import { fakeContext } from '../../utils/cli-context.ts';

const figures = { heldOutLoss: 2.5, trainLoss: 2, tokens: 90, seconds: 3, updateBytes: 800 };
const merged = { type: 'checkpoint', ...figures, updates: 2, tokensPerSecond: 30 };

/** Returns a signed checkpoint as the API shows it. */
function view(round: number, restores: number | null = null): object {
  return {
    round,
    restores,
    checkpoint: { round, createdAt: round, metrics: figures, contributors: [{}, {}] },
  };
}

it('takes the figures of rounds whose events were lost from the checkpoints', async () => {
  const events = [
    { ...merged, round: 1, at: 1 },
    { type: 'caught-up', before: 1, round: 5, at: 9 },
    { ...merged, round: 6, at: 6 },
  ];
  // No peer had the checkpoint of round 3.
  const checkpoints = [view(6), view(5, 2), view(4), view(2), view(1), view(0)];
  const lines = events.map((event, i) => `${JSON.stringify({ sequence: i + 1, job: 'ab', ...event })}\n`);
  const manifest = { base: { name: 'nano' }, lora: {}, training: {}, rounds: {} };
  const job = { job: 'ab', name: 'tale', manifest, createdAt: 1, checkpoint: { round: 6 } };
  const home = await answeringCoordinator(({ url = '' }, response) => {
    if (url.includes('/events')) response.end(lines.join(''));
    else if (url.includes('/checkpoints')) response.end(JSON.stringify({ checkpoints }));
    else response.end(JSON.stringify(job));
  });
  const { context } = fakeContext({ cwd: home });
  const args = ['track', 'tale', '--home', home, '--csv', join(home, 'tale.csv'), '--no-follow'];
  await createProgram(context).parseAsync(args, { from: 'user' });
  const [, ...rows] = (await readFile(join(home, 'tale.csv'), 'utf8')).trim().split('\n');
  const row = (round: number, values: string): string =>
    `ab,${round},1970-01-01T00:00:00.00${round}Z,${values}`;
  const all = '2.5,2,2,90,3,800,30';
  expect(rows).toEqual([row(1, all), row(2, all), row(4, all), row(5, '2.5,,,,,,'), row(6, all)]);
});
