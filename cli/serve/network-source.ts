import type { AdapterSource, ServedVersion } from '../../index.ts';
import type { FollowEvent, FollowedCheckpoint, JobFollower } from '../../node/reader/job-follower.ts';

/**
 * Returns a source that serves the checkpoints of a job which this machine follows over the network. It serves the newest
 * checkpoint, unless a request names another one by its round (`JOB:ROUND`) or its digest. A checkpoint that is no longer on
 * this machine cannot be served.
 */
export function networkSource(follower: Pick<JobFollower, 'name' | 'checkpoints'>): AdapterSource {
  const { name } = follower;
  return {
    name,
    origin: `job ${name}, followed over the network`,
    async find(choice) {
      const { checkpoints } = follower;
      const isChosen = ({ digest, round }: FollowedCheckpoint): boolean => {
        if (choice === null) return true;
        return 'digest' in choice
          ? digest.startsWith(choice.digest)
          : choice.tag === 'latest' || choice.tag === String(round);
      };
      const found = checkpoints.find(isChosen);
      return found === undefined ? null : versionOf(found);
    },
  };
}

function versionOf({ digest, folder }: FollowedCheckpoint): ServedVersion {
  return { digest, folder: async () => folder };
}

/** Describes an event of a follower in one line. @param follower null until its first checkpoint has arrived */
export function followNote(
  event: FollowEvent,
  follower: Pick<JobFollower, 'name' | 'checkpoints'> | null,
): string {
  if (event.type === 'checkpoint') return `round ${event.checkpoint.round} of the followed job is served now`;
  if (event.type === 'reached') return 'the coordinator of the followed job answers again';
  if (follower === null) return `waiting for the coordinator of the job to follow: ${event.reason}`;
  const { round } = follower.checkpoints[0]!;
  return `cannot look for new checkpoints of ${follower.name}, so round ${round} stays in use: ${event.reason}`;
}
