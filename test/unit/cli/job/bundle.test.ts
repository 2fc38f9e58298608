import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { expect, it } from 'vitest';
import { writeBundle } from '../../../../cli/job/bundle.ts';
import { bundleJob } from '../../../../coordinator/client/bundle-job.ts';
import { coordinatorError } from '../../../../coordinator/errors.ts';
import { storageError } from '../../../../storage/errors.ts';
import { type BundleSource, blobsOf, encodeBundle } from '../../../../verify/bundle/encode.ts';
import { verifyBundle } from '../../../../verify/bundle/verify-bundle.ts';
import { answeringCoordinator } from '../../../utils/answering-coordinator.ts';
import { fakeContext } from '../../../utils/cli-context.ts';
import { playedJob } from '../../verify/forged-job.ts';

/**
 * Starts a coordinator that answers each request with lines of progress and the bundle of a job.
 * @param options.isOld whether the coordinator has an earlier release, which refuses a request for the progress
 * @param options.endsEarly whether the answer ends before the line that announces the bundle
 * @returns its home
 */
async function coordinator(
  source: BundleSource,
  progress: readonly object[] = [],
  { isOld = false, endsEarly = false } = {},
): Promise<string> {
  async function* answer() {
    if (endsEarly) {
      yield Buffer.from(progress.map((line) => `${JSON.stringify(line)}\n`).join(''));
      return;
    }
    const lines = [...progress, { event: 'bundle' }].map((line) => `${JSON.stringify(line)}\n`).join('');
    // A line can arrive in several pieces, and the last one together with the first bytes of the bundle.
    yield Buffer.from(lines.slice(0, 7));
    let rest = Buffer.from(lines.slice(7));
    for await (const chunk of encodeBundle(source)) {
      yield Buffer.concat([rest, chunk]);
      rest = Buffer.alloc(0);
    }
  }
  return answeringCoordinator(({ url = '' }, response) => {
    if (isOld && url.includes('progress')) {
      response.writeHead(400).end(JSON.stringify(coordinatorError('REQUEST_INVALID', 'a test', {}).toJSON()));
    } else if (isOld) Readable.from(encodeBundle(source), { objectMode: false }).pipe(response);
    else Readable.from(answer(), { objectMode: false }).pipe(response);
  });
}

it('keeps a bundle that lacks damaged blobs, names the blobs, and fails', async () => {
  const { source } = await playedJob();
  const { digest } = blobsOf([...source.checkpoints()].at(-1)!)[0]!;
  const missing = [{ use: 'adapter', round: 3, digest }] as const;
  const home = await coordinator({ ...source, missing });
  const { context, out } = fakeContext({ cwd: home });
  for (const json of [true, false]) {
    const file = join(home, `${json}.bundle`);
    await expect(
      writeBundle(context, 'toy', `${json}.bundle`, { home, json, blobs: true }),
    ).rejects.toMatchObject({ code: 'BUNDLE_INCOMPLETE', kind: 'failed', values: { file, missing } });
    // With --json, the error is the only object.
    expect(out().includes(file)).toBe(!json);
    expect(await verifyBundle(file)).toMatchObject({ ok: true });
  }
});

it('does not fail if only residuals are lost, because no node has them', async () => {
  const { source } = await playedJob();
  const residual = { use: 'residual', round: 2, digest: 'ab'.repeat(32) } as const;
  const home = await coordinator({ ...source, missing: [residual] });
  for (const json of [true, false]) {
    const { context, out } = fakeContext({ cwd: home });
    await writeBundle(context, 'toy', `${json}.bundle`, { home, json, blobs: true });
    if (json) expect(JSON.parse(out())).toMatchObject({ missing: [residual] });
    else expect(out()).toContain(residual.digest);
  }
  const { digest } = blobsOf([...source.checkpoints()].at(-1)!)[0]!;
  const missing = [residual, { use: 'adapter', round: 3, digest } as const];
  const both = await coordinator({ ...source, missing });
  const { context } = fakeContext({ cwd: both });
  await expect(writeBundle(context, 'toy', 'both.bundle', { home: both, blobs: true })).rejects.toMatchObject(
    {
      code: 'BUNDLE_INCOMPLETE',
      values: { missing },
      message: expect.not.stringContaining(residual.digest),
    },
  );
});

it('passes on the progress of the repairs, and then writes the bundle', async () => {
  const { source } = await playedJob();
  const repairing = { use: 'adapter', round: 3, digest: 'ab'.repeat(32) } as const;
  const steps = [
    { checked: 0, blobs: 2, repairing: null },
    { checked: 1, blobs: 2, repairing },
  ];
  const home = await coordinator(
    source,
    steps.map((step) => ({ event: 'progress', ...step })),
  );
  const seen: unknown[] = [];
  const file = join(home, 'progress.bundle');
  await bundleJob({ home }, 'toy', file, { onRepair: (step) => seen.push(step) });
  expect(seen).toEqual(steps);
  expect(await verifyBundle(file)).toMatchObject({ ok: true });
});

it('gets the bundle of a coordinator of an earlier release, which has no progress', async () => {
  const { source } = await playedJob();
  const home = await coordinator(source, [], { isOld: true });
  const file = join(home, 'old.bundle');
  await bundleJob({ home }, 'toy', file);
  expect(await verifyBundle(file)).toMatchObject({ ok: true });
});

it.each([
  { when: 'after a line', lines: [{ event: 'progress', checked: 0, blobs: 2, repairing: null }] },
  { when: 'before the first line', lines: [] },
])('fails if the answer ends before the bundle begins ($when), and writes nothing', async ({ lines }) => {
  const { source } = await playedJob();
  const home = await coordinator(source, lines, { endsEarly: true });
  const file = join(home, 'early.bundle');
  const error = { code: 'DAEMON_GONE', message: expect.not.stringContaining('""') };
  await expect(bundleJob({ home }, 'toy', file)).rejects.toMatchObject(error);
  expect(existsSync(file)).toBe(false);
});

it('gives the error of the coordinator, and writes nothing', async () => {
  const { source } = await playedJob();
  const error = storageError('BLOB_MISSING', 'a test', {}).toJSON();
  const home = await coordinator(source, [{ event: 'error', ...error }]);
  const file = join(home, 'failed.bundle');
  await expect(bundleJob({ home }, 'toy', file)).rejects.toMatchObject({ code: 'BLOB_MISSING' });
  expect(existsSync(file)).toBe(false);
});

it('writes a whole bundle without an error', async () => {
  const { source } = await playedJob();
  const home = await coordinator(source);
  const { context, out } = fakeContext({ cwd: home });
  await writeBundle(context, 'toy', 'whole.bundle', { home, json: true, blobs: true });
  expect(JSON.parse(out())).toMatchObject({ file: join(home, 'whole.bundle'), missing: [] });
});
