import { expect, it } from 'vitest';
import { silentLogger } from '../../../monitor/log.ts';
import { joinedJob } from '../../../node/own-checkpoint.ts';
import { KnownJobs } from '../../../node/store/known-jobs.ts';
import { temporaryFolder } from '../../utils/folder.ts';
import { signerOf } from '../../utils/signers.ts';

const [FIRST, SECOND] = ['ab'.repeat(32), 'cd'.repeat(32)] as const;
const invite = (job: string) => ({
  addresses: [`/ip4/127.0.0.1/tcp/4040/p2p/${signerOf(1).peerId}`],
  job,
  invite: 'token',
});

it('finds the jobs that a node has joined, also after they have ended', async () => {
  const home = await temporaryFolder();
  const known = new KnownJobs({ home }, { log: silentLogger });
  known.remember(invite(FIRST), { job: FIRST, name: 'moby' });
  known.remember(invite(SECOND), { job: SECOND, name: 'moby' });
  known.forget(invite(FIRST));
  known.forget(invite(SECOND));
  await known.saved();
  expect(await joinedJob(home, 'moby')).toMatchObject({ job: SECOND, token: 'token' });
  expect(await joinedJob(home, FIRST.slice(0, 6))).toMatchObject({ job: FIRST });
  await expect(joinedJob(home, 'beta')).rejects.toMatchObject({
    code: 'JOB_NOT_FOUND',
    message: expect.stringMatching(/"beta".*moby/),
    next: expect.stringContaining('--home'),
  });
});
