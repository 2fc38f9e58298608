import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { expect, test } from 'vitest';
import { Daemon, TestSwarm } from './swarm.ts';

interface Report {
  ok: boolean;
  job: string;
  code?: string;
  checkpoints: { round: number }[];
  problems: { code: string; round: number | null }[];
  held: { round: number; chainFrom: number; weights: { round: number; digest: string } | null };
}

test('a volunteer verifies what a neighbour and the own node hold, after the coordinator is gone for good', async () => {
  const swarm = await TestSwarm.create();
  const coordinator = await (await swarm.coordinator()).ready();
  await swarm.createJob({ admission: 'invite', rounds: { count: 100, localSteps: 400, quorum: 1 } });
  const [, heron] = ['otter', 'heron'].map((name) => swarm.node(name)) as [Daemon, Daemon];
  await swarm.until('round 3', (event) => event.type === 'checkpoint' && event.round === 3);
  await coordinator.kill();
  const addressOf = async (node: Daemon): Promise<string> => {
    const { addresses } = await node.line('ready', ({ event }) => event === 'ready');
    return (addresses as string[])[0]!;
  };
  const verify = async (...args: string[]): Promise<{ code: number | null; report: Report }> => {
    const elsewhere = { XDG_DATA_HOME: join(swarm.folder, 'elsewhere'), SWARM_HOME: '' };
    const command = new Daemon('verify', ['verify', ...args, '--json'], elsewhere);
    const { code } = await command.exited;
    return { code, report: command.lines.at(-1) as unknown as Report };
  };
  const ofOtter = ['--home', swarm.homeOf('otter')];
  const ofHeron = ['--home', swarm.homeOf('heron')];

  // The node of heron answers, because otter's home, which the command uses, has the job key.
  const { code, report } = await verify(await addressOf(heron), ...ofOtter);
  expect([code, report], JSON.stringify(report)).toMatchObject([
    0,
    { ok: true, job: swarm.job, problems: [], held: { chainFrom: 0 } },
  ]);
  expect(report.held.weights!.round).toBeGreaterThanOrEqual(2);
  const stranger = await verify(await addressOf(heron), '--job', swarm.job);
  expect([stranger.code, JSON.stringify(stranger.report)]).toEqual([
    expect.not.toSatisfy((status: number) => status === 0),
    expect.stringContaining('JOB_NOT_READABLE'),
  ]);

  // Verifies the user's own node while it runs, and after it has stopped.
  const own = await verify(...ofHeron);
  expect([own.code, own.report]).toMatchObject([0, { ok: true, held: report.held }]);
  await heron.kill();
  const stopped = await verify(swarm.job.slice(0, 12), ...ofHeron);
  expect([stopped.code, stopped.report]).toMatchObject([0, { ok: true, held: report.held }]);

  // Changes one bit of the weights, and then also one bit of an older checkpoint.
  const { round, digest } = report.held.weights!;
  const path = join(swarm.homeOf('heron'), 'blobs', digest.slice(0, 2), digest);
  const weights = await readFile(path);
  await writeFile(
    path,
    weights.map((byte, i) => (i === weights.length - 3 ? byte ^ 1 : byte)),
  );
  const damaged = await verify(...ofHeron);
  expect([damaged.code, damaged.report.problems[0]]).toMatchObject([1, { code: 'VERIFY_BLOB', round }]);
  await writeFile(path, weights);
  const database = new DatabaseSync(join(swarm.homeOf('heron'), 'node.sqlite'));
  const [row] = database.prepare('SELECT envelope FROM kept_checkpoints WHERE round = 1').all();
  const envelope = (row!.envelope as Uint8Array).map((byte, i) => (i === 150 ? byte ^ 1 : byte));
  database.prepare('UPDATE kept_checkpoints SET envelope = ? WHERE round = 1').run(envelope);
  database.close();

  // The node of heron starts again, although its coordinator does not answer.
  const again = swarm.node('heron');
  const altered = await verify(await addressOf(again), ...ofOtter, '--job', swarm.job);
  expect([altered.code, altered.report.problems[0]]).toMatchObject([
    1,
    { code: 'VERIFY_SIGNATURE', round: 1 },
  ]);
}, 240_000);
