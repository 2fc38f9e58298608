import type {
  CoordinatorStatus,
  JobDetail,
  JobEvent,
  JobSummary,
  NodeStatus,
  PeerView,
} from '../../index.ts';
import type { TimeLeft } from '../node-screen/pace.ts';

/** Parts of the screen that the user can choose. */
export const VIEWS = ['overview', 'peers', 'rounds', 'events'] as const;
export type View = (typeof VIEWS)[number];

/** Facts about a coordinator and the job that the user has chosen. */
export interface CoordinatorFacts {
  readonly role: 'coordinator';
  readonly status: CoordinatorStatus;
  /** Nodes of all jobs. */
  readonly peers: readonly PeerView[];
  /** The chosen job; null if there are no jobs. */
  readonly job: JobDetail | null;
  /** Events of the chosen job that say how its rounds ended, oldest first. */
  readonly history: readonly JobEvent[];
  /** The newest events of the chosen job as text, oldest first. */
  readonly events: readonly { readonly at: number; readonly text: string }[];
}

/** Facts about a node. */
export interface NodeFacts {
  readonly role: 'node';
  readonly status: NodeStatus;
  readonly timeLeft: readonly TimeLeft[];
  /** The option with which other commands find the home of the node; an empty text if they need no option. */
  readonly homeFlag: string;
}

/** The choices of the user. */
export interface Choice {
  readonly view: View;
  /** Digest of the chosen job; null if the user has chosen no job (see `shownJob`). */
  readonly job: string | null;
  /** Number of lines of the list that are above the screen. */
  readonly scroll: number;
}

/** Returns the chosen job, or else the first job that has not ended, or else the first job; undefined without jobs. */
export function shownJob<Job extends Pick<JobSummary, 'job' | 'phase'>>(
  jobs: readonly Job[],
  choice: Pick<Choice, 'job'>,
): Job | undefined {
  return (
    jobs.find(({ job }) => job === choice.job) ?? jobs.find(({ phase }) => phase !== 'finished') ?? jobs[0]
  );
}

const IN_A_ROUND: ReadonlySet<JobSummary['phase']> = new Set([
  'training',
  'collecting',
  'validating',
  'committing',
]);

/** Sorts jobs: first those with a round in progress, then those that can have another round, then those that have ended. */
export function busiestFirst<Job extends Pick<JobSummary, 'phase'>>(jobs: readonly Job[]): Job[] {
  const rank = ({ phase }: Job): number => (IN_A_ROUND.has(phase) ? 0 : phase === 'finished' ? 2 : 1);
  return jobs.toSorted((a, b) => rank(a) - rank(b));
}

export const FIRST_CHOICE: Choice = { view: 'overview', job: null, scroll: 0 };

/** The content of one frame. */
export interface TopState {
  readonly facts: CoordinatorFacts | NodeFacts;
  readonly choice: Choice;
  /** Time of the frame in milliseconds since 1970. */
  readonly now: number;
  /** Reason why the facts are old; null if the newest request succeeded. */
  readonly failure: string | null;
}

/** Returns the views that a daemon of this role has. */
export function viewsOf(role: TopState['facts']['role']): readonly View[] {
  return role === 'coordinator' ? VIEWS : ['overview', 'rounds'];
}
