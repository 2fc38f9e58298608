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
];

/** Runs `events replay --json` against a coordinator that was restored in round 2, when its nodes had round 11. */
async function replay(args: string[], events: readonly object[] = EVENTS): Promise<unknown> {
  const lines = events
    .map((event, i) => `${JSON.stringify({ sequence: i + 1, job: 'ab', ...event })}\n`)
    .join('');
  const job = JSON.stringify({ job: 'ab', name: 'tale', jobs: [{ name: 'tale' }] });
  const home = await answeringCoordinator(({ url = '' }, response) => {
    response.end(url.includes('/events') ? lines : job);
  });
  const { context, out } = fakeContext({ cwd: home });
  await createProgram(context).parseAsync(['events', 'replay', 'tale', '--home', home, '--json', ...args], {
    from: 'user',
  });
  return JSON.parse(out());
}

it('shows the end of a round, and that the job went on at once', async () => {
  expect(await replay(['--round', '1'])).toMatchObject({ sequence: 2, round: 1, phase: 'training' });
  expect(await replay(['--round', '12'])).toMatchObject({ sequence: 5, round: 12, phase: 'training' });
});

it.each(['2', '5', '11'])(
  'says that the events of round %s were lost with the old database',
  async (round) => {
    await expect(replay(['--round', round])).rejects.toMatchObject({
      code: 'EVENTS_MISSING',
      values: { round: Number(round), before: 1, after: 11 },
    });
  },
);

it('shows no ban that ended after the newest event before the chosen moment', async () => {
  const ban = { type: 'banned', peer: 'p', cause: 'strikes', reason: '', until: 60_000, at: 10 };
  // The clock of the command shows 0.
  const past = { ...ban, at: -20 };
  expect(await replay([], [{ ...past, until: 0 }])).toMatchObject({ at: -20, banned: [] });
  expect(await replay([], [{ ...past, until: 1 }])).toMatchObject({ at: -20, banned: ['p'] });
  expect(await replay(['--at', '1970-01-01T00:00:59Z'], [ban])).toMatchObject({ banned: ['p'] });
  expect(await replay(['--at', '1970-01-01T00:01:00Z'], [ban])).toMatchObject({ banned: [] });
});
