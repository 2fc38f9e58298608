import { resolveHomes } from '../../common/files/user-folders.ts';
import { countOf, safeText, shellWord } from '../../common/text.ts';
import type { NodeStatus } from '../../index.ts';
import { placeText, placeTexts, workText } from '../../monitor/node-work.ts';
import { SWARM } from '../command-name.ts';
import type { Context } from '../context.ts';
import type { NodeWork } from '../daemon/stopped-node.ts';
import { hasInviteVariable } from '../options/target-input.ts';

type Totals = NodeStatus['totals'];

/**
 * Returns the texts for a job that has ended: thanks with the work of this node in the job, its place among the contributors,
 * and the command that fetches the adapter. A job without a merge has only its initial adapter, so this command is left out. A
 * node that made no update for the job gets no thanks.
 * @param options.homeFlag the result of {@link homeFlag} for the node
 */
export function thanksTexts(
  ended: NonNullable<NodeStatus['job']>,
  totals: Totals,
  { homeFlag }: { homeFlag: string },
): string[] {
  const { name, job, roundsDone } = ended;
  const own = totals.filter((one) => one.job === job);
  const given = own.length === 0 ? '' : `: ${workText(own)}`;
  return [
    hadPart(ended, totals)
      ? `thank you for your part in ${name}${given}`
      : `${name} has ended, without an update of this node`,
    ...finalPlaceTexts(ended, totals),
    roundsDone === 0
      ? `no round of ${name} was merged, so it has no trained adapter`
      : `fetch the adapter: ${SWARM} checkpoint pull ${name}${homeFlag}`,
  ];
}

/** Returns whether a node had a part in a job: it made an update, or has another role than contributor. */
export function hadPart({ job, role }: NonNullable<NodeStatus['job']>, totals: Totals): boolean {
  return role !== 'contributor' || totals.some((one) => one.job === job);
}

/**
 * Returns a text about the place of this node among the contributors of a job that has ended; no text until the coordinator
 * has answered for the last checkpoint.
 */
export function finalPlaceTexts(job: NonNullable<NodeStatus['job']>, totals: Totals): string[] {
  return placeTexts(job, totals, { ofCheckpoint: true }).map((text) => `your place in ${job.name}: ${text}`);
}

/**
 * Returns the option `--home` with which other commands find the home of a node, preceded by a space. Returns an empty
 * text if these commands find the home without the option.
 */
export function homeFlag(context: Pick<Context, 'environment' | 'cwd'>, home: string): string {
  // Ignore SWARM_HOME, because the command may run in a shell that lacks it. If SWARM_INVITE holds an invite,
  // `checkpoint pull` needs the option, because it would otherwise use that invite instead of the node.
  const environment = { ...context.environment, SWARM_HOME: undefined };
  const isFound =
    resolveHomes(undefined, environment, context.cwd).node === home && !hasInviteVariable(context);
  return isFound ? '' : ` --home ${shellWord(home)}`;
}

/**
 * Returns the lines that a node prints when it stops: whether an update waits for the next start, what the node has
 * contributed to the jobs of this run, with its places, and what it has contributed since its key was created.
 * @param work null if the node has no database yet
 * @param jobs digests of the jobs of this run
 */
export function stoppedLines(work: NodeWork | null, jobs: ReadonlySet<string>): string[] {
  const waits = work?.updates.some(({ code, outcome }) => code === null && outcome === null) ?? false;
  const stopped = waits
    ? 'stopped     the newest update has no receipt yet; it is saved, and the next start delivers it'
    : 'stopped';
  return [stopped, ...(work === null ? [] : farewell(work, jobs))];
}

function farewell({ totals }: NodeWork, jobs: ReadonlySet<string>): string[] {
  if (totals.every(({ accepted }) => accepted === 0)) return [];
  const all = `${workText(totals)}, in ${countOf(totals.length, 'job')}`;
  const own = totals.filter(({ job, accepted }) => accepted > 0 && jobs.has(job));
  if (own.length === 0) return [`in all      ${all}; thank you`];
  const nameOf = ({ job, name }: (typeof own)[number]): string => safeText(name ?? job.slice(0, 12));
  return [
    `contributed ${workText(own)}, to ${own.map(nameOf).join(', ')}; thank you`,
    ...own.flatMap((one) => {
      if (one.contribution === null) return [];
      return [`place       ${nameOf(one)}: ${placeText(one.contribution)}`];
    }),
    ...(own.length < totals.length ? [`in all      ${all}`] : []),
  ];
}
