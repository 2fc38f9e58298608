import { mkdir, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { warningText } from '../../../cli/daemon/warning-text.ts';
import { silentLogger } from '../../../monitor/logs/log.ts';
import { requireDatabase, requireIdentity } from '../../../storage/remains.ts';
import { temporaryFolder } from '../../utils/folder.ts';
import { withCode } from '../../utils/source/codes.ts';
import { recordingLog, type TestHost } from '../../utils/swarm/hosts.ts';

const options = { role: 'coordinator', startAnew: false, now: Date.UTC(2026, 0, 1) } as const;
const deps = { log: silentLogger };

async function fullHome(): Promise<string> {
  const home = await temporaryFolder();
  await mkdir(join(home, 'blobs', 'ab'), { recursive: true });
  await writeFile(join(home, 'blobs', 'ab', `ab${'0'.repeat(62)}`), 'x');
  for (const round of ['0000', '0001']) {
    await mkdir(join(home, 'checkpoints', 'moby', round), { recursive: true });
  }
  await writeFile(join(home, 'identity'), 'key');
  return home;
}

it('refuses a full home without its database, and names what it found', async () => {
  const home = await fullHome();
  const refusal = withCode('STORE_MISSING', { blobs: 1, checkpoints: 2, jobs: ['moby'] });
  await expect(requireDatabase(home, options, deps)).rejects.toEqual(refusal);
  await writeFile(join(home, 'coordinator.sqlite'), '');
  const again = requireDatabase(home, options, deps);
  await expect(again).rejects.toEqual(refusal);
  await expect(again).rejects.toMatchObject({
    message: expect.stringMatching(/\b2 checkpoints\b.*\b1 job \(moby\).*\b1 blob\b/),
    next: expect.stringContaining('"--start-anew"'),
  });
});

it('accepts a new home, a home with only its key, and a home with its database', async () => {
  const home = await temporaryFolder();
  await requireDatabase(home, options, deps);
  await writeFile(join(home, 'identity'), 'key');
  await mkdir(join(home, 'blobs', 'incoming'), { recursive: true });
  await requireDatabase(home, options, deps);
  const full = await fullHome();
  await writeFile(join(full, 'coordinator.sqlite'), 'a database');
  await requireDatabase(full, options, deps);
});

it('starts anew if the operator says so, and keeps the old files and the key', async () => {
  const home = await fullHome();
  const logged: TestHost['logged'] = [];
  await requireDatabase(home, { ...options, startAnew: true }, { log: recordingLog(logged) });
  expect((await readdir(home)).sort()).toEqual(['identity', 'set-aside-2026-01-01T00-00-00.000Z']);
  const kept = await readdir(join(home, 'set-aside-2026-01-01T00-00-00.000Z', 'checkpoints', 'moby'));
  expect(kept).toHaveLength(2);
  const entry = { time: '2026-01-01T00:00:00.000Z', msg: logged[0]!.action, ...logged[0]!.fields };
  const { text } = warningText(JSON.stringify(entry), 'coordinator')!;
  expect(text).toContain(join(home, 'set-aside-2026-01-01T00-00-00.000Z'));
  expect(text).toMatch(/\b2 checkpoints\b.*\bmoby\b.*\b1 blob\b/);
  await requireDatabase(home, options, deps);
});

it('refuses a database of a coordinator without its key', async () => {
  const home = await temporaryFolder();
  await requireIdentity(home);
  await writeFile(join(home, 'coordinator.sqlite'), 'a database');
  await expect(requireIdentity(home)).rejects.toThrow(
    withCode('IDENTITY_MISSING', { identity: join(home, 'identity') }),
  );
  await writeFile(join(home, 'identity'), 'key');
  await requireIdentity(home);
});
