import { peerHealth } from '../../monitor/peer-health.ts';
import type { OtherVersion, PeerConnection } from '../../net/network.ts';
import type { PeerView } from '../../protocol/api/peers.ts';
import { type HoldReason, holdMeanings } from '../../protocol/holds.ts';
import type { JobRun } from '../job-run.ts';
import type { Hold } from '../peers/liveness.ts';
import { isOver } from '../round/job-phase.ts';

/** A node that cannot join a job until its owner changes something. */
interface WaitingNode {
  readonly peer: string;
  readonly name: string;
  readonly engine: string;
  readonly hold: Hold;
}

/** Returns the hold of a node whose program has another version. */
export function versionHold({ agent }: OtherVersion): Hold {
  return { reason: 'version', detail: agent === '' ? '' : `it runs ${agent}` };
}

/**
 * Returns a node of another version. The coordinator cannot read its requests, and knows only its program. All such
 * nodes get the same name. If a node could choose this name, an operator might mistake it for another node.
 */
export function nodeOf(other: OtherVersion): WaitingNode {
  return { peer: other.peer, name: 'other version', engine: '', hold: versionHold(other) };
}

/** Returns the view of a node that is not a member of a job, because it cannot join. */
export function waitingView(
  { peer, name, engine, hold }: WaitingNode,
  place: { job: string; jobName: string },
  connections: ReadonlyMap<string, PeerConnection>,
): PeerView {
  const connection = connections.get(peer);
  const state = 'joining';
  const standing = 'good';
  const times = { lastSeenSeconds: 0, stillSeconds: 0, rttMs: connection?.rttMs ?? null };
  const meaning = holdMeanings[hold.reason];
  return {
    ...{ peer, name, person: peer, role: 'contributor', ...place },
    address: connection?.address ?? null,
    connected: connection !== undefined,
    ...{ state, hold, round: 0, step: 0, steps: 0, tokensPerSecond: 0, engine, ...times },
    health: peerHealth({ state, hold: meaning, standing, awaitedSeconds: null, refusal: null, ...times }),
    ...{ accepted: 0, refused: 0, unmerged: 0, tokens: 0, last: null, standing, strikes: 0, score: null },
    ...{ bytesSent: 0, bytesReceived: 0 },
  };
}

/**
 * Counts the nodes of a job that take no work for now or cannot join, by the reason.
 * @param others connected nodes of another version that are members of the job, or of no job
 */
export function waitingNodes(
  { driver, members }: JobRun,
  others: readonly OtherVersion[],
): { reason: HoldReason; nodes: number }[] {
  if (isOver(driver.state)) return [];
  const reasons = new Map<string, HoldReason>();
  const waiting = [
    ...others.map((other) => ({ peer: other.peer, hold: versionHold(other) })),
    ...members.refused.all(),
    ...members.liveness.held(),
  ];
  for (const { peer, hold } of waiting) reasons.set(peer, hold.reason);
  const counts = new Map<HoldReason, number>();
  for (const reason of reasons.values()) counts.set(reason, (counts.get(reason) ?? 0) + 1);
  return [...counts].map(([reason, nodes]) => ({ reason, nodes }));
}
