import { expect, it } from 'vitest';
import { createProgram } from '../../../cli/program.ts';
import { answeringCoordinator } from '../../utils/answering-coordinator.ts';
import { fakeContext } from '../../utils/cli-context.ts';

const opened = (round: number, at: number) => ({ type: 'round-opened', round, peers: 2, at });
const figures = {
  updates: 1,
  tokens: 9,
  tokensPerSecond: 9,
  updateBytes: 9,
  bytesPerParameter: 1,
  seconds: 1,
  drift: 0,
};
const EVENTS = [
  opened(1, 10),
  { type: 'checkpoint', round: 1, heldOutLoss: 3, trainLoss: 3, ...figures, at: 20 },
  opened(2, 20),
  {
    type: 'caught-up',
    before: 1,
    round: 11,
    term: 2,
    checkpoints: 9,
    missing: 1,
    peer: 'p',
    heldOutLoss: 2,
    roundsDone: 11,
    phase: 'waiting',
    at: 900,
  },
  opened(12, 950),
].map((event, i) => ({ sequence: i + 1, job: 'ab', ...event }));

/** Runs `events replay --json` against a coordinator that was restored in round 2, when its nodes had round 11. */
async function replay(...args: string[]): Promise<unknown> {
  const lines = EVENTS.map((event) => `${JSON.stringify(event)}\n`).join('');
  const job = JSON.stringify({ job: 'ab', name: 'tale', jobs: [{ name: 'tale' }] });
  const home = await answeringCoordinator((url) => (url.includes('/events') ? lines : job));
  const { context, out } = fakeContext({ cwd: home });
  await createProgram(context).parseAsync(['events', 'replay', 'tale', '--home', home, '--json', ...args], {
    from: 'user',
  });
  return JSON.parse(out());
}

it('shows the end of a round, and that the job went on at once', async () => {
  expect(await replay('--round', '1')).toMatchObject({ sequence: 2, round: 1, phase: 'training' });
  expect(await replay('--round', '12')).toMatchObject({ sequence: 5, round: 12, phase: 'training' });
});

it.each(['2', '5', '11'])(
  'says that the events of round %s were lost with the old database',
  async (round) => {
    await expect(replay('--round', round)).rejects.toMatchObject({
      code: 'EVENTS_MISSING',
      values: { round: Number(round), before: 1, after: 11 },
    });
  },
);
