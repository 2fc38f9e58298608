import { expect, it } from 'vitest';
import { daemonLog } from '../../../../cli/daemon/log.ts';
import { WarningLines } from '../../../../cli/daemon/warning-lines.ts';
import type { Role } from '../../../../storage/daemon-home.ts';
import { fakeContext } from '../../../utils/cli-context.ts';
import { temporaryFolder } from '../../../utils/folder.ts';

function linesOf(role: Role, ...entries: readonly object[]): string[] {
  const lines: string[] = [];
  const sink = new WarningLines(
    { role },
    { ...fakeContext().context.stderr, write: (line) => lines.push(line) },
  );
  for (const entry of entries) sink.write(JSON.stringify({ time: '2026-11-28T04:00:00.000Z', ...entry }));
  return lines;
}

it('leaves out what the lines of events say', () => {
  const event = { job: 'moby', round: 3, reason: 'no updates' };
  const names = ['addresses-private', 'null-round', 'rolled-back', 'scoring-failed'];
  expect(linesOf('coordinator', ...names.map((msg) => ({ ...event, msg })))).toEqual([]);
});

it('puts other warnings into words', () => {
  const [line] = linesOf('coordinator', {
    msg: 'job-not-published',
    job: 'moby',
    error: { name: 'SwarmError', message: 'the disk is full' },
  });
  expect(line).toMatch(/^\d\d:\d\d:00 {2}! moby: .+: the disk is full\n$/);
  expect(line).not.toContain('job-not-published');
});

it('shows the beginning of the digest of a job only on a node with several invites', () => {
  const failed = { msg: 'train-failed', job: 'ab'.repeat(32) };
  expect(linesOf('node', failed)).toEqual([expect.not.stringContaining('abab')]);
  expect(linesOf('node', { ...failed, invite: 2 })).toEqual([
    expect.stringMatching(/! abababababab: (?!.*abab)/),
  ]);
});

it('is brief about a coordinator that is away or still starts', () => {
  const failed = { msg: 'poll-failed', reason: 'a long reason' };
  expect(
    linesOf('node', { ...failed, code: 'RPC_UNREACHABLE' }, { msg: 'join-failed', code: 'POLICY_DISK' }),
  ).toEqual([]);
  const refusedWith = (refusal: string) => linesOf('node', { ...failed, code: 'RPC_REFUSED', refusal });
  expect(refusedWith('RPC_METHOD_UNKNOWN')).toEqual([expect.not.stringContaining(failed.reason)]);
  expect(refusedWith('NOT_ADMITTED')).toEqual([expect.stringContaining(failed.reason)]);
});

it.each([
  [{ json: false, logLevel: undefined }, /^\d\d:\d\d:\d\d {2}! moby: /],
  [{ json: true, logLevel: undefined }, /^\{"level":"warn"/],
  [{ json: false, logLevel: 'warn' }, /^\{"level":"warn"/],
])('writes whole entries only on request: %j', async (options, pattern) => {
  const { context, err } = fakeContext();
  const log = daemonLog(context, { home: await temporaryFolder(), role: 'coordinator', ...options });
  log.warn({ job: 'moby' }, 'job-not-published');
  expect(err()).toMatch(pattern);
});
