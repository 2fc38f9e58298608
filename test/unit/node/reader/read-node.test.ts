import { expect, test } from 'vitest';
import { netError } from '../../../../net/errors.ts';
import { nodeThatRefused, readNode } from '../../../../node/reader/read-node.ts';
import { OwnJobs } from '../../../../node/store/own-jobs.ts';
import { signMessage } from '../../../../protocol/signing.ts';
import { signerOf } from '../../../utils/swarm/signers.ts';
import { toyJob } from '../../../utils/virtual/toy-job.ts';
import { VirtualClock } from '../../../utils/virtual/virtual-clock.ts';
import { COORDINATOR } from '../../coordinator/world.ts';

test('a coordinator that answers as a node is refused', async () => {
  const { job, manifest } = toyJob(COORDINATOR, { namesCoordinator: true });
  const answer = { manifest: signMessage('manifest', manifest, COORDINATOR), head: null };
  const network = { signer: signerOf(40), request: async () => answer } as never;
  const read = (peer: string) =>
    readNode(
      { network },
      { peer, wanted: job, own: new OwnJobs([]) },
      { clock: new VirtualClock(0) },
      new AbortController().signal,
    );
  const code = 'CHECKPOINT_UNTRUSTED';
  await expect(read(COORDINATOR.peerId)).rejects.toMatchObject({
    code,
    values: { coordinator: COORDINATOR.peerId },
  });
  const { peerId } = signerOf(41);
  await expect(read(peerId)).rejects.toMatchObject({ code, values: { job, peer: peerId } });
});

test('a peer that an invite names as the coordinator is not read as a node', () => {
  const values = { code: 'RPC_METHOD_UNKNOWN', method: 'jobs', peer: 'peer' };
  const error = netError('RPC_REFUSED', 'refused', values);
  expect(nodeThatRefused(error, { isInvited: false })).toBe('peer');
  expect(nodeThatRefused(error, { isInvited: true })).toBeNull();
});
