import type { SwarmError } from '../../common/errors.ts';
import type { Hold } from '../../protocol/api/node.ts';
import type { OwnStanding } from '../contact/port.ts';
import type { NodeState } from '../machine/state.ts';
import type { JobContext } from './context.ts';
import type { JobWorker } from './job-worker.ts';

/** State of a running node, from which its status and its health checks are made. */
export interface SwarmNodeView extends Pick<JobWorker, 'progress' | 'download'> {
  readonly state: NodeState;
  /** How far the coordinator trusts this node; null before the coordinator has admitted the node. */
  readonly standing: OwnStanding | null;
  /** The coordinator's final refusal, for example because it has banned this node; null if there is none. */
  readonly shutOut: SwarmError | null;
  /** Context of the job; null before the node has joined a job. */
  readonly context: JobContext | null;
  /** Name of the job, also before the node has joined it; null if it is not known. */
  readonly jobName: string | null;
  /** Name of the job that has the trainer while this job waits for it; null if this job does not wait. */
  readonly busyWith: string | null;
  readonly weight: number;
  /** Reason why the node takes no work for now, such as a limit or a pause; null if it takes work. */
  readonly hold: Hold | null;
  /** Time for which this job has had the trainer, in seconds. */
  readonly trainerSeconds: number;
  /** Whether the node joins the coordinator's next job when this job has ended. */
  readonly followsJobs: boolean;
}
