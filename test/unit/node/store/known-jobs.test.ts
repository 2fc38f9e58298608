import { readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { readTargets } from '../../../../cli/options/target-input.ts';
import { silentLogger } from '../../../../monitor/logs/log.ts';
import {
  KnownJobs,
  keepInvites,
  otherJobs,
  readJoinedJobs,
  readKnownJobs,
  readKnownNames,
} from '../../../../node/store/known-jobs.ts';
import { fakeContext } from '../../../utils/cli-context.ts';
import { temporaryFolder } from '../../../utils/folder.ts';

const PEER = `12D3KooW${'a'.repeat(44)}`;
const OTHER = `12D3KooW${'b'.repeat(44)}`;
const JOB = 'ab'.repeat(32);
const invite = { addresses: [`/ip4/1.2.3.4/tcp/1/p2p/${PEER}`], job: JOB, invite: 'secret', weight: 2 };
const MOBY = { job: JOB, name: 'moby' };
const ALICE = { job: 'cd'.repeat(32), name: 'alice' };
const open = { addresses: [`/ip4/1.2.3.4/tcp/2/p2p/${OTHER}`], job: null, invite: null };

it('keeps the invites of joined jobs, readable by the owner only, until the jobs end', async () => {
  const home = await temporaryFolder();
  const known = new KnownJobs({ home }, { log: silentLogger });
  known.remember(invite, MOBY);
  known.remember(open, ALICE);
  // The coordinator has a new address.
  known.remember({ ...invite, addresses: [`/ip4/5.6.7.8/tcp/1/p2p/${PEER}`] }, MOBY);
  await known.saved();
  const path = join(home, 'known-jobs.json');
  if (process.platform !== 'win32') expect((await stat(path)).mode & 0o777).toBe(0o600);
  expect(await readFile(path, 'utf8')).toContain('secret');
  expect(
    (await readKnownJobs(home)).map(({ name, addresses, weight }) => [name, addresses[0], weight]),
  ).toEqual([
    ['alice', open.addresses[0], 1],
    ['moby', `/ip4/5.6.7.8/tcp/1/p2p/${PEER}`, 2],
  ]);
  known.forget(invite);
  await known.saved();
  const stranger = { ...open, job: 'ef'.repeat(32) };
  expect(await readKnownNames(home, [invite, open, stranger])).toEqual(['moby', 'alice', null]);
  expect((await readKnownJobs(home)).map(({ name }) => name)).toEqual(['alice']);
  // The owner can fetch the adapters of ended jobs, so their invites stay.
  expect(await readJoinedJobs(home)).toEqual([
    { ...ALICE, addresses: open.addresses, token: null },
    { ...MOBY, addresses: [`/ip4/5.6.7.8/tcp/1/p2p/${PEER}`], token: 'secret' },
  ]);
  await writeFile(path, '{"version": 1, "jobs": [{}]}');
  expect(await readKnownJobs(home)).toEqual([]);
});

it('are the jobs of "node" without an invite', async () => {
  const home = await temporaryFolder();
  const { context } = fakeContext();
  const read = (given: string[] = [], environment = {}) =>
    readTargets({ ...context, environment }, given, {}, { home, homeFlag: ' --home second' });
  await expect(read()).rejects.toMatchObject({
    code: 'USAGE',
    next: expect.stringContaining('node - --home second'),
  });
  const known = new KnownJobs({ home }, { log: silentLogger });
  known.remember(invite, MOBY);
  known.remember(open, ALICE);
  await known.saved();
  expect(await read()).toEqual([
    { addresses: invite.addresses, job: JOB, token: 'secret', weight: 2, name: 'moby' },
    { addresses: open.addresses, job: null, token: null, weight: 1, name: 'alice' },
  ]);
  expect(await read([open.addresses[0]!])).toHaveLength(1);
  expect(await read([], { SWARM_INVITE: open.addresses[0] })).toHaveLength(1);
});

it('keeps given invites beside those of joined jobs', async () => {
  const home = await temporaryFolder();
  const known = new KnownJobs({ home }, { log: silentLogger });
  known.remember(invite, MOBY);
  await known.saved();
  const again = { addresses: invite.addresses, job: JOB, token: 'new', weight: 1 };
  const fresh = { addresses: open.addresses, job: null, token: null, weight: 3 };
  await keepInvites(home, [again, fresh]);
  expect(await readKnownJobs(home)).toEqual([
    { ...again, name: 'moby' },
    { ...fresh, name: null },
  ]);
});

it('tells which kept jobs a node does not join with its invites', () => {
  const [first, second] = [JOB, ALICE.job].map((job) => ({ ...invite, job, token: null, name: job }));
  const [one, two] = [first!, second!];
  const free = { ...open, token: null, weight: 1, name: 'free' };
  const known = [one, two, free];
  expect(otherJobs(known, known)).toEqual([]);
  expect(otherJobs(known, [two])).toEqual([one, free]);
  // An invite without a job may lead to any job of its coordinator.
  expect(otherJobs(known, [{ addresses: one.addresses, job: null }])).toEqual([free]);
  expect(otherJobs([free], [{ addresses: free.addresses, job: JOB }])).toEqual([]);
});
