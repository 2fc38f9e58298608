import { isSwarmError, type SwarmError } from '../../common/errors.ts';
import type { Clock } from '../../common/time/clock.ts';
import { type BlobProof, proveMembership } from '../../protocol/access/job-key.ts';
import { verifyMessage } from '../../protocol/signing.ts';
import type { ReadNode } from '../../verify/node-record.ts';
import { request, verifyHead } from '../contact/requests.ts';
import { nodeError } from '../errors.ts';
import type { OwnJobs } from '../store/own-jobs.ts';
import type { ReaderHost } from './reader.ts';

/**
 * Returns the peer id of the node that answered a request of a reader; null if the peer is not a node.
 * @param isInvited whether an invite names the peer as the coordinator of the job, so that the peer cannot be a node
 */
export function nodeThatRefused(error: unknown, { isInvited }: { isInvited: boolean }): string | null {
  const isNode =
    !isInvited &&
    isSwarmError(error, 'RPC_REFUSED') &&
    error.values.code === 'RPC_METHOD_UNKNOWN' &&
    error.values.method === 'jobs';
  return isNode ? String(error.values.peer) : null;
}

/**
 * Asks a node for the manifest and the newest head of a job, and verifies that the coordinator of the job signed both. The
 * digest of the job decides which manifest is accepted, because a node that lies could invent a job.
 * @param wanted digest of the job. If it is null, the only job in `own`
 * @param own the jobs of the node of this machine, whose keys show that this machine may read them
 * @returns null if the peer cannot give the records of jobs, because it is a node of an older version or a coordinator
 *   that is still starting
 * @throws SwarmError JOB_NOT_FOUND, CHECKPOINT_UNTRUSTED, RPC_*
 */
export async function readNode(
  { network }: Pick<ReaderHost, 'network'>,
  { peer, wanted, own }: { peer: string; wanted: string | null; own: OwnJobs },
  { clock }: { clock: Clock },
  signal: AbortSignal,
): Promise<ReadNode | null> {
  const job = wanted ?? own.only();
  if (job === null) throw unnamed(peer, own);
  const known = own.find(job);
  const ends = { requester: network.signer.peerId, holder: peer };
  const proof = known && proveMembership(job, known.key, ends);
  const answer = await ask({ network, clock }, peer, { job, proof }, signal);
  if (answer === null) return null;
  const { author, digest, message } = verifyMessage('manifest', answer.manifest);
  // The manifest of an older job does not name its coordinator, but the node of this machine knows the coordinator.
  const coordinator = message.coordinator ?? known?.coordinator ?? author;
  if (digest !== job || author !== coordinator) {
    throw untrusted(`the node ${peer} sent a manifest that does not belong to job ${job}`, {
      job,
      peer,
      found: digest,
    });
  }
  // A coordinator that answers as a node could hide receipts and scores, because a node may lack them.
  if (peer === coordinator) {
    throw untrusted(`the coordinator ${peer} answers as a node does, so it could hide receipts and scores`, {
      job,
      peer,
      coordinator,
    });
  }
  if (answer.head === null) throw untrusted(`the node ${peer} has no head of the job`, { job, peer });
  const head = verifyHead(answer.head, { coordinator, job });
  return { job, peer, proof, manifest: answer.manifest, head, signedHead: answer.head };
}

async function ask(
  deps: Parameters<typeof request>[0],
  peer: string,
  { job, proof }: { job: string; proof: BlobProof | null },
  signal: AbortSignal,
) {
  try {
    // Send no token of an invite, because this node could use the token to join the job.
    return await request(deps, peer, 'manifest', { job, invite: null, ...(proof && { proof }) }, signal);
  } catch (error) {
    if (isSwarmError(error, 'RPC_REFUSED') && error.values.code === 'RPC_METHOD_UNKNOWN') return null;
    throw error;
  }
}

function unnamed(peer: string, own: OwnJobs): SwarmError {
  const names = own.all.map(({ job }) => job).join(', ');
  return nodeError(
    'JOB_NOT_FOUND',
    `the peer ${peer} is a node, and no job was named`,
    { peer },
    { next: `name the digest of the job with --job${names === '' ? '' : `: ${names}`}` },
  );
}

function untrusted(message: string, values: Record<string, unknown>): SwarmError {
  return nodeError('CHECKPOINT_UNTRUSTED', message, values, { next: 'ask another node of the job' });
}
