import { mkdtempSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { failureOf } from '../../../../cli/errors.ts';
import { waitForJob } from '../../../../cli/job/wait.ts';
import { fakeContext } from '../../../utils/cli-context.ts';

const JOB = 'ab'.repeat(32);
const REASON = 'the held-out check has turned 5 rounds in a row down';

/** Starts a coordinator with one job and these events. @param restarting number of requests that it breaks off */
async function coordinator(
  needsOperator: boolean,
  events: object[],
  { restarting = 0 } = {},
): Promise<string> {
  const job = {
    job: JOB,
    name: 'moby',
    rounds: 8,
    roundsDone: 2,
    round: 3,
    checkpoint: { round: 2, digest: JOB },
    phase: 'paused',
    baseLoss: 5,
    reason: REASON,
    needsOperator,
  };
  let broken = restarting;
  let sentEvents = false;
  const server = createServer((request, response) => {
    const { pathname, searchParams } = new URL(request.url!, 'http://localhost');
    if (pathname.endsWith('/events')) {
      const after = Number(searchParams.get('after'));
      for (const [i, event] of events.entries()) {
        if (i < after) continue;
        response.write(`${JSON.stringify({ sequence: i + 1, at: 0, job: JOB, ...event })}\n`);
      }
      sentEvents = true;
      if (!searchParams.has('follow')) response.end();
      return;
    }
    if (sentEvents && broken-- > 0) {
      request.destroy();
      return;
    }
    response.end(JSON.stringify(pathname.endsWith('/jobs') ? { jobs: [job] } : job));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => {
    server.close();
    server.closeAllConnections();
  });
  const home = mkdtempSync(join(tmpdir(), 'swarm-home-'));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  writeFileSync(join(home, 'coordinator.json'), JSON.stringify({ role: 'coordinator', url }));
  writeFileSync(join(home, 'api-token'), 'secret\n');
  return home;
}

const paused = { type: 'paused', reason: REASON };
const finished = { type: 'finished', round: 8, heldOutLoss: 4, baseLoss: 5 };

describe('waiting for a job', () => {
  it('ends when the job pauses itself, with the reason and the next command', async () => {
    const home = await coordinator(true, [paused]);
    const { context, out } = fakeContext();
    const error = await waitForJob(context, JOB, { home, until: 'finished' }).catch((e: unknown) => e);
    expect(failureOf(error)).toMatchObject({ code: 'JOB_PAUSED', exitCode: 9 });
    expect(failureOf(error).message).toContain(REASON);
    expect(failureOf(error).next).toContain('lora-swarm job resume moby');
    expect(out()).toContain('paused');
  });

  it('continues through a past pause, and one by the operator', async () => {
    const home = await coordinator(false, [paused, { type: 'resumed' }, finished]);
    const { context, out } = fakeContext();
    await waitForJob(context, JOB, { home, until: 'finished' });
    expect(out()).toContain('resumed');
  });

  it('distinguishes a past pause from the present one', async () => {
    const committed = { type: 'checkpoint', round: 3, digest: 'cd'.repeat(32), heldOutLoss: 4, updates: 2 };
    const numbers = { updateBytes: 1, bytesPerParameter: 1, tokensPerSecond: 1, seconds: 1 };
    const events = [
      { type: 'paused', reason: 'lunch' },
      { type: 'resumed' },
      { ...committed, ...numbers },
      paused,
    ];
    const home = await coordinator(true, events);
    const { context, out } = fakeContext();
    const error = await waitForJob(context, JOB, { home, until: 'finished' }).catch((e: unknown) => e);
    expect(failureOf(error)).toMatchObject({ code: 'JOB_PAUSED', values: { reason: REASON } });
    expect(out()).toContain('resumed');
    // The job is paused, but it reached round 3 before the pause.
    await waitForJob(context, JOB, { home, until: 'round=3' });
  });

  it('repeats its requests while the coordinator restarts', async () => {
    const home = await coordinator(true, [paused], { restarting: 2 });
    const { context } = fakeContext();
    await expect(waitForJob(context, JOB, { home, until: 'finished' })).rejects.toMatchObject({
      code: 'JOB_PAUSED',
    });
  });
});
