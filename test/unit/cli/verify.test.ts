import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { gravest } from '../../../cli/commands/verify.ts';
import { isPrinted } from '../../../cli/errors.ts';
import { createProgram } from '../../../cli/program.ts';
import { verifyLines } from '../../../cli/views/verify.ts';
import type { VerifyReport } from '../../../index.ts';
import { fakeContext } from '../../utils/cli-context.ts';
import { temporaryFolder } from '../../utils/folder.ts';

test('lora-swarm verify refuses options that have no effect on a file of receipts', async () => {
  const file = join(await temporaryFolder(), 'receipts.json');
  await writeFile(file, '{}');
  const run = (...args: string[]) =>
    createProgram(fakeContext().context).parseAsync(['verify', file, ...args], { from: 'user' });
  await expect(run()).rejects.toMatchObject({ code: 'RECEIPTS_MALFORMED' });
  for (const option of ['--from', '--invite-file', '--data', '--model', '--home']) {
    await expect(run(option, '5')).rejects.toMatchObject({
      ...{ code: 'USAGE', message: expect.stringContaining(option) },
    });
  }
});

test('--json prints one object with the same fields if nothing could be verified', async () => {
  const file = join(await temporaryFolder(), 'job.bundle');
  await writeFile(file, 'no bundle');
  const { context, out } = fakeContext();
  const run = createProgram(context).parseAsync(['verify', file, '--json'], { from: 'user' });
  const error: unknown = await run.catch((thrown: unknown) => thrown);
  expect(isPrinted(error)).toBe(true);
  expect(JSON.parse(out())).toMatchObject({
    ...{ ok: false, checkpoints: [], recomputed: 0, problems: [] },
    error: { code: 'BUNDLE_MALFORMED', exitCode: 1 },
  });
});

test('a problem that disproves the coordinator decides the exit code, also after a gap in the record', () => {
  const problem = (code: 'VERIFY_SOURCE' | 'VERIFY_MERGE' | 'VERIFY_WEIGHT') => ({
    code,
    round: 1,
    message: code,
    values: {},
  });
  expect(
    gravest([problem('VERIFY_SOURCE'), problem('VERIFY_MERGE'), problem('VERIFY_WEIGHT')]),
  ).toMatchObject({
    code: 'VERIFY_MERGE',
    kind: 'disproved',
  });
  expect(gravest([problem('VERIFY_SOURCE')])).toMatchObject({ code: 'VERIFY_SOURCE', kind: 'failed' });
  expect(gravest([])).toBeNull();
});

test('the report on what a node holds names its newest round, its chain and its adapter', () => {
  const report: VerifyReport = {
    ...{ ok: true, job: 'a'.repeat(64), name: 'moby', coordinator: 'boss', namesCoordinator: true },
    ...{ checkpoints: [], recomputed: 0, problems: [] },
  };
  const held = { round: 9, issuedAt: Date.UTC(2026, 10, 28), chainFrom: 3 };
  const text = (weights: { round: number; digest: string } | null): string =>
    verifyLines({ ...report, held: { ...held, weights } }).join('\n');
  expect(text({ round: 8, digest: 'd1ge57' })).toMatch(/round 9.*2026-11-28.*round 3.*round 8.*d1ge57/s);
  expect(text(null)).toMatch(/^adapter +\D+$/m);
  expect(verifyLines(report).join('\n')).not.toMatch(/^(source|newest|chain|adapter) /m);
});

test('a path without a file is not taken for the name of a job', async () => {
  const home = await temporaryFolder();
  const { context } = fakeContext({ environment: { SWARM_HOME: home } });
  const missing = join(home, 'no-such.bundle');
  const run = createProgram(context).parseAsync(['verify', missing], { from: 'user' });
  await expect(run).rejects.toMatchObject({ code: 'USAGE', message: expect.stringContaining(missing) });
});
