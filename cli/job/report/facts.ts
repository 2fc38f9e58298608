import type { ApiClient, CheckpointView, JobDetail, JobEvent, SampleResult } from '../../../index.ts';
import { EventLines } from '../../views/events.ts';

/** A node that has sent updates for a job. */
export interface ReportedNode {
  readonly peer: string;
  /** Name that the node chose; empty if the coordinator knows none. */
  readonly name: string;
  /** Number of the node's updates that were merged into checkpoints. */
  readonly updates: number;
  /** Number of tokens that the node trained on for its merged updates. */
  readonly tokens: number;
  /** Bytes of all updates that the node sent, including updates that were not merged. */
  readonly bytes: number;
  readonly refused: number;
  /** Number of updates that were not merged although nothing is wrong with them, for example because of a pause. */
  readonly unmerged: number;
}

/** A line of the report about a problem or a roll-back. */
export interface Incident {
  readonly at: number;
  readonly text: string;
}

/** Everything that the report of a job shows. It has no network address and no invite. */
export interface JobReport {
  readonly job: Omit<JobDetail, 'invite'>;
  readonly coordinator: string;
  /** Oldest first, with the initial checkpoint. */
  readonly checkpoints: readonly CheckpointView[];
  /** The nodes, sorted by the number of their tokens, the largest first. */
  readonly nodes: readonly ReportedNode[];
  /** Number of updates that the coordinator refused or a merge left out, by the code of the receipt. */
  readonly refusals: Readonly<Record<string, number>>;
  readonly incidents: readonly Incident[];
  readonly samples: SampleResult | null;
  /** Time of the report, in milliseconds since 1970. */
  readonly at: number;
  readonly version: string;
}

/** Events that the report lists one by one. Refused updates are only counted, because a job can have many of them. */
const INCIDENTS = [
  'rolled-back',
  'null-round',
  'shared-fault',
  'suspended',
  'banned',
  'pardoned',
  'caught-up',
  'blob-damaged',
  'tasks-failed',
  'samples-failed',
  'scoring-failed',
  'scorer-failed',
  'paused',
  'resumed',
] as const;

/** Collects the facts about a job from its coordinator. */
export async function collectReport(
  api: ApiClient,
  id: string,
  { now, version }: { now: number; version: string },
): Promise<JobReport> {
  const [{ invite: _, ...job }, { peerId: coordinator }, newestFirst, peers, newest] = await Promise.all([
    api.job(id),
    api.status(),
    api.checkpoints(id),
    api.peers(),
    api.samples(id),
  ]);
  const best = job.best?.round;
  const isSampled = best !== undefined && newest.rounds.includes(best);
  const samples = isSampled ? (await api.samples(id, best)).result : newest.result;
  const names = new Map(peers.map(({ peer, name }) => [peer, name]));
  const updates = new UpdateSums();
  const incidents: Incident[] = [];
  const lines = new EventLines();
  const types = ['peer-joined', 'update', 'update-undone', ...INCIDENTS];
  for await (const event of api.events(id, { types, follow: false })) {
    if (event.type === 'peer-joined') names.set(event.peer, event.name);
    else if (event.type === 'update' || event.type === 'update-undone') updates.add(event);
    else {
      const text = lines.line(event);
      if (text !== null) incidents.push({ at: event.at, text: text.replace(/^! /, '') });
    }
  }
  const checkpoints = newestFirst.toReversed();
  return {
    job,
    coordinator,
    checkpoints,
    nodes: nodesOf(checkpoints, { updates, names }),
    refusals: updates.refusals,
    incidents,
    samples,
    at: now,
    version,
  };
}

/** Sums the bytes and counts the refusals of all updates of a job: by node, and the refusals also by code. */
class UpdateSums {
  readonly bytes = new Map<string, number>();
  readonly refused = new Map<string, number>();
  readonly unmerged = new Map<string, number>();
  readonly refusals: Record<string, number> = {};

  add(event: Extract<JobEvent, { type: 'update' | 'update-undone' }>): void {
    const { peer, code } = event;
    if (event.type === 'update') this.bytes.set(peer, (this.bytes.get(peer) ?? 0) + event.bytes);
    if (code === 'accepted' || code === 'late') return;
    if (code === 'null-round') {
      this.unmerged.set(peer, (this.unmerged.get(peer) ?? 0) + 1);
      return;
    }
    this.refused.set(peer, (this.refused.get(peer) ?? 0) + 1);
    this.refusals[code] = (this.refusals[code] ?? 0) + 1;
  }
}

function nodesOf(
  checkpoints: readonly CheckpointView[],
  {
    updates: { bytes, refused, unmerged },
    names,
  }: { updates: UpdateSums; names: ReadonlyMap<string, string> },
): ReportedNode[] {
  const work = new Map<string, { updates: number; tokens: number }>();
  for (const { peer, tokens } of checkpoints.flatMap(({ checkpoint }) => checkpoint.contributors)) {
    const sum = work.get(peer) ?? { updates: 0, tokens: 0 };
    work.set(peer, { updates: sum.updates + 1, tokens: sum.tokens + tokens });
  }
  // A node whose updates were all refused has no work in a checkpoint, and is listed too.
  const peers = new Set([...work.keys(), ...bytes.keys()]);
  const nodes = [...peers].map((peer) => ({
    peer,
    name: names.get(peer) ?? '',
    ...(work.get(peer) ?? { updates: 0, tokens: 0 }),
    bytes: bytes.get(peer) ?? 0,
    refused: refused.get(peer) ?? 0,
    unmerged: unmerged.get(peer) ?? 0,
  }));
  return nodes.sort((a, b) => b.tokens - a.tokens);
}
