import { digestSchema } from '../protocol/ids.ts';
import { decodeInvite, looksLikeInvite } from '../protocol/invite.ts';
import { SWARM } from './command-name.ts';
import { usageError } from './errors.ts';
import { isPeerAddress } from './options.ts';

/** A job and the coordinator that runs it. */
export interface Target {
  /** Multiaddrs of its coordinator. */
  addresses: readonly string[];
  /** Digest of the job; null if the coordinator chooses it. */
  job: string | null;
  /** Token of the invite; null if there is none. */
  token: string | null;
}

/**
 * Parses an invite (addresses, job and token), or the multiaddrs of a coordinator.
 * @param job value of --job
 * @throws SwarmError USAGE, INVITE_INVALID
 */
export function parseTarget(target: readonly string[], job: string | undefined): Target {
  const [first] = target;
  if (job !== undefined && !digestSchema.safeParse(job).success) {
    throw usageError(
      '--job takes the whole digest of a job, 64 hexadecimal digits',
      `${SWARM} job list --json shows it`,
    );
  }
  if (first !== undefined && looksLikeInvite(first)) {
    if (target.length > 1)
      throw usageError(
        'an invite already contains the addresses, so no address may follow it',
        'give only the invite',
      );
    const invite = decodeInvite(first);
    if (job !== undefined && invite.job !== null && invite.job !== job) {
      throw usageError(`the invite is for job ${invite.job}, not ${job}`, 'leave out --job');
    }
    return { addresses: invite.addresses, job: invite.job ?? job ?? null, token: invite.token };
  }
  const wrong = target.find((address) => !isPeerAddress(address));
  if (wrong !== undefined) {
    throw usageError(
      `"${wrong}" is neither an invite nor a multiaddr that ends in /p2p/PEER`,
      'paste the invite that "swarm job create" or "swarm status" prints on the coordinator',
    );
  }
  return { addresses: target, job: job ?? null, token: null };
}
