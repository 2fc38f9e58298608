/** Texts about the work of a machine for its jobs, and about the cost of this work. */
import {
  changeText,
  countOf,
  formatBytes,
  formatCount,
  formatDuration,
  formatPercent,
} from '../common/text.ts';

/** The merged work of a node for a job, compared with all nodes whose updates were merged. */
interface JobContribution {
  /** Round of the checkpoint up to which the figures count. */
  readonly round: number;
  /** Place of the node if all contributors are sorted by their tokens; 1 is the first. */
  readonly place: number;
  readonly contributors: number;
  readonly tokens: number;
  readonly totalTokens: number;
}

/** The work of a node for one job. */
interface JobWork {
  readonly job: string;
  /** Name of the job; null if the home does not know it. */
  readonly name: string | null;
  /** Number of the node's updates that count, or may still count, in a merge. */
  readonly accepted: number;
  /** Number of the node's updates that do not count in a merge, for example because the coordinator refused them. */
  readonly refused: number;
  readonly tokens: number;
  readonly seconds: number;
  /** null if the coordinator has not answered yet. */
  readonly contribution: JobContribution | null;
}

interface Traffic {
  readonly sent: number;
  readonly received: number;
}

/** Returns the place and the share of a node in a job: "3rd of 12 contributors, with 14 % of the tokens". */
export function placeText({ place, contributors, tokens, totalTokens }: JobContribution): string {
  const isTeen = Math.floor(place / 10) % 10 === 1;
  const nth = `${formatCount(place)}${isTeen ? 'th' : (['th', 'st', 'nd', 'rd'][place % 10] ?? 'th')}`;
  const share = `${formatPercent(tokens / totalTokens)} of the tokens`;
  return `${nth} of ${countOf(contributors, 'contributor')}, with ${share}`;
}

/**
 * Returns the place and the share of a node in one of its jobs; no text if the coordinator has not answered yet.
 * @param options.ofCheckpoint whether to leave out an answer that is older than the newest checkpoint. @default false
 */
export function placeTexts(
  job: { readonly job: string; readonly checkpoint: { readonly round: number } | null } | null,
  totals: readonly JobWork[],
  { ofCheckpoint = false }: { ofCheckpoint?: boolean } = {},
): string[] {
  const contribution = totals.find((one) => one.job === job?.job)?.contribution ?? null;
  if (contribution === null) return [];
  const isOld = contribution.round < (job?.checkpoint?.round ?? 0);
  return ofCheckpoint && isOld ? [] : [placeText(contribution)];
}

/** Returns a text with the total of a node's work in the given jobs. */
export function workText(totals: readonly JobWork[]): string {
  const sum = (field: 'accepted' | 'refused' | 'tokens' | 'seconds'): number =>
    totals.reduce((total, one) => total + one[field], 0);
  const refused = sum('refused') > 0 ? `, ${formatCount(sum('refused'))} not counted` : '';
  const trained = `${countOf(sum('tokens'), 'token')} in ${formatDuration(sum('seconds'))} of training`;
  return `${countOf(sum('accepted'), 'round')} accepted${refused}, ${trained}`;
}

/**
 * Returns two lines: the work for the jobs that the node takes part in now, and the work for all jobs of this home. The
 * second line is left out if there were no other jobs.
 */
export function totalsText({
  totals,
  jobs,
}: {
  readonly totals: readonly JobWork[];
  readonly jobs: readonly {
    readonly job: { readonly job: string } | null;
    readonly jobName: string | null;
  }[];
}): string[] {
  if (totals.length === 0) return ['nothing yet'];
  const present = new Set(jobs.map(({ job }) => job?.job));
  // Before the node has joined a job, only the name of the job is known.
  const names = new Set(
    jobs.flatMap(({ job, jobName }) => (job === null && jobName !== null ? [jobName] : [])),
  );
  const own = totals.filter(({ job, name }) => present.has(job) || (name !== null && names.has(name)));
  const all = `${workText(totals)} in ${countOf(totals.length, 'job')}`;
  return own.length === totals.length
    ? [workText(own)]
    : [own.length === 0 ? 'nothing yet' : workText(own), all];
}

interface UpdateReceipt {
  /** null until a receipt has arrived. */
  readonly code: string | null;
  readonly meaning: string;
  readonly detail: string;
  /** null until the update is settled. */
  readonly outcome: 'counted' | 'restored' | null;
}

/**
 * Returns texts about an update of a node: what has become of the update, and the reason. The reason is empty if the update
 * was accepted.
 * @param options.isJobOver whether the job has ended, so that there is no next update. @default false
 */
export function outcomeText(
  { code, meaning, detail, outcome }: UpdateReceipt,
  { isJobOver = false }: { isJobOver?: boolean } = {},
): { state: string; why: string } {
  const isUnmerged = code === 'null-round';
  const state = isUnmerged ? 'not merged' : (code ?? 'sent');
  if (outcome === 'counted') return { state: `${state}, merged`, why: '' };
  if (code === 'accepted' && outcome === null) return { state, why: '' };
  const reason = detail === '' ? meaning : isUnmerged ? detail : `${meaning} (${detail})`;
  return {
    state,
    why: outcome === 'restored' && !isJobOver ? `${reason}; its content is added to the next update` : reason,
  };
}

/** Returns a text with the processor threads, the memory and the disk space that the node uses now. */
export function costText({
  cost,
}: {
  readonly cost: {
    readonly cpuThreads: number;
    readonly memoryBytes: number;
    readonly diskBytes: number | null;
  };
}): string {
  const disk = cost.diskBytes === null ? '' : `, disk ${formatBytes(cost.diskBytes)}`;
  return `CPU ${cost.cpuThreads.toFixed(1)} threads, memory ${formatBytes(cost.memoryBytes)}${disk}`;
}

/** Returns a text with the bytes per second that the node sends and receives now. */
export function speedText({ cost }: { readonly cost: { readonly bytesPerSecond: Traffic } }): string {
  const { sent, received } = cost.bytesPerSecond;
  return `${formatBytes(sent)}/s up, ${formatBytes(received)}/s down`;
}

/** Returns the traffic of this month. */
export function monthText({ cost }: { readonly cost: { readonly month: Traffic } }): string {
  const { sent, received } = cost.month;
  return `this month ${formatBytes(sent)} up, ${formatBytes(received)} down`;
}

/** Returns a text about the newest change of the settings of a job: "from round 22: rounds.count 40 → 60 (more data)". */
export function settingsText({
  fromRound,
  changes,
  reason,
}: {
  readonly fromRound: number;
  readonly changes: readonly { readonly key: string; readonly before: number; readonly after: number }[];
  readonly reason: string;
}): string {
  return `from round ${fromRound}: ${changeText(changes)}${reason === '' ? '' : ` (${reason})`}`;
}
