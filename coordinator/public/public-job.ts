import type { JobWithBest } from '../../monitor/best-text.ts';
import { jobTasks } from '../api/job-views.ts';
import { bestCheckpoint } from '../best-checkpoint.ts';
import type { CoordinatorDeps } from '../context.ts';
import type { JobRun } from '../job-run.ts';
import { inviteTo } from '../jobs/invite.ts';
import { isOver } from '../round/job-phase.ts';
import type { JobState } from '../round/state.ts';
import type { PublicPageOptions } from './settings.ts';

/** Maximum number of nodes in the table of contributors. */
export const SHOWN_CONTRIBUTORS = 200;
/** Maximum number of points of the loss curve. A screen shows no more. */
const CURVE_POINTS = 500;

/** A node in the table of contributors. */
export interface ContributorRow {
  readonly peer: string;
  /** Name that the node chose; null if the node is no longer a member of the job. */
  readonly name: string | null;
  readonly updates: number;
  readonly tokens: number;
  /** The node's part of the tokens that all nodes trained on, from 0 to 1. */
  readonly share: number;
}

/** The way in which a volunteer can join a job. */
export type Joining =
  | { readonly kind: 'open'; readonly invite: string }
  | { readonly kind: 'invite' | 'peers' | 'over' };

/** The facts about a job that the public page shows. No other fact about the job may become public. */
export interface PublicJob extends JobWithBest {
  readonly job: string;
  readonly name: string;
  readonly coordinator: string;
  readonly phase: JobState['phase'];
  readonly rounds: number;
  readonly roundsDone: number;
  /** Number of nodes that are connected now. */
  readonly nodes: number;
  readonly tokensPerSecond: number;
  readonly baseLoss: number | null;
  readonly loss: number | null;
  /** Held-out losses, oldest first, at most {@link CURVE_POINTS}. */
  readonly curve: readonly { readonly round: number; readonly loss: number }[];
  /** The nodes with the most tokens, at most {@link SHOWN_CONTRIBUTORS}. */
  readonly contributors: readonly ContributorRow[];
  /** Number of all nodes that have contributed. */
  readonly contributorCount: number;
  readonly joining: Joining;
}

/** Returns whether the page may show a job. */
export function isShown({ context: { stored } }: JobRun, { jobs }: PublicPageOptions): boolean {
  return jobs === undefined ? stored.admission.kind === 'open' : jobs.includes(stored.name);
}

/** Collects the public facts about a job. */
export async function publicJob(
  { context, driver, record, members, contributions }: JobRun,
  { network, store }: Pick<CoordinatorDeps, 'network' | 'store'>,
): Promise<PublicJob> {
  const { job, stored, settings } = context;
  const { checkpoint, ordinal } = record.checkpoint;
  const { state } = driver;
  const { metrics } = checkpoint;
  const [best, tasks] = [bestCheckpoint(job, store), jobTasks(job, store)];
  const { all, tokens } = await contributions.upTo(checkpoint.round);
  const joining = (): Joining => {
    const { kind } = stored.admission;
    if (isOver(state)) return { kind: 'over' };
    if (kind !== 'open') return { kind };
    if (members.invites.sharedRevokedAt !== null) return { kind: 'invite' };
    return { kind, invite: inviteTo({ job, token: null }, network) };
  };
  return {
    job,
    name: stored.name,
    coordinator: network.signer.peerId,
    phase: state.phase,
    rounds: settings.newest.count,
    roundsDone: ordinal,
    nodes: members.liveness.size,
    tokensPerSecond: metrics.seconds > 0 ? metrics.tokens / metrics.seconds : 0,
    baseLoss: stored.baseLoss,
    loss: metrics.heldOutLoss,
    best: best && { round: best.round, heldOutLoss: best.heldOutLoss },
    tasks: tasks && { metric: tasks.metric, best: tasks.best },
    curve: thinned(
      store.rounds.losses(job).flatMap(({ round, loss }) => (loss === null ? [] : [{ round, loss }])),
    ),
    contributors: all.slice(0, SHOWN_CONTRIBUTORS).map((part) => ({
      ...part,
      name: members.list.get(part.peer)?.name ?? null,
      share: tokens > 0 ? part.tokens / tokens : 0,
    })),
    contributorCount: all.length,
    joining: joining(),
  };
}

/** Returns evenly spaced points, with the first and the last point. */
function thinned<T>(points: readonly T[]): T[] {
  if (points.length <= CURVE_POINTS) return [...points];
  const step = (points.length - 1) / (CURVE_POINTS - 1);
  return Array.from({ length: CURVE_POINTS }, (_, i) => points[Math.round(i * step)]!);
}
