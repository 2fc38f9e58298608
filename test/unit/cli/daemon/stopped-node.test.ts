import { join } from 'node:path';
import { expect, it } from 'vitest';
import { stoppedNode } from '../../../../cli/daemon/stopped-node.ts';
import { stoppedLines } from '../../../../cli/views/thanks.ts';
import { NodeStore } from '../../../../node/store/node-store.ts';
import { temporaryFolder } from '../../../utils/folder.ts';

const JOB = 'ab'.repeat(32);

it('has the receipts that arrived while the node stopped', async () => {
  const home = await temporaryFolder();
  expect(await stoppedNode(home)).toBeNull();
  const store = NodeStore.open(join(home, 'node.sqlite'));
  const digest = 'cd'.repeat(32);
  const [update, envelope] = [digest, new Uint8Array([1])];
  store.saveUpdate({
    update: { job: JOB, round: 3, update, bytes: 10, preset: 'dense', envelope, at: 1 },
    feedback: digest,
    optimizer: digest,
    tokensPerSecond: 5,
    work: { tokens: 100, seconds: 1 },
  });
  expect(stoppedLines(await stoppedNode(home), new Set([JOB]))).toEqual([
    expect.stringMatching(/^stopped +\S/),
  ]);
  store.saveReceipt(JOB, 3, { code: 'accepted', detail: '' });
  store.close();
  expect(stoppedLines(await stoppedNode(home), new Set([JOB]))[0]).toBe('stopped');
});
