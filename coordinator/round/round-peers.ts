/** Transitions for the events of peers. They change the open round and the peers that are present. */

import { ARRIVAL_ROUNDS, type Round } from './close.ts';
import { isOpen } from './job-phase.ts';
import type { JobState, MachineEvent } from './state.ts';

export function delivered(state: JobState, event: Extract<MachineEvent, { type: 'update' }>): JobState {
  const { peer, round, ms, speed } = event;
  const known = Object.hasOwn(state.present, peer) ? state.present[peer]! : null;
  const present = known ? { ...state.present, [peer]: { ...known, speed } } : state.present;
  const arrivals = [...state.arrivals, { peer, round, ms }].filter(
    (arrival) => arrival.round >= state.round - ARRIVAL_ROUNDS,
  );
  const next = { ...state, present, arrivals };
  const { current } = state;
  // A late update still shows how fast its node is. It is merged with the next round that closes.
  if (!isOpen(state) || current?.number !== round || !current.assigned.includes(peer)) return next;
  if (current.delivered.includes(peer)) return next;
  return { ...next, phase: 'collecting', current: { ...current, delivered: [...current.delivered, peer] } };
}

export function judge(
  present: JobState['present'],
  judged: Extract<MachineEvent, { type: 'judged' }>['peers'],
): JobState['present'] {
  const changed = Object.keys(judged).filter((peer) => Object.hasOwn(present, peer));
  const entries = changed.map((peer) => [peer, { ...present[peer]!, ...judged[peer] }] as const);
  return { ...present, ...Object.fromEntries(entries) };
}

export function afterLeaving(
  round: Round | null,
  { peer, reason }: Extract<MachineEvent, { type: 'peer-gone' }>,
): Round | null {
  if (reason === 'left') return withoutPeer(round, peer);
  if (round === null || reason === 'silent') return round;
  if (!round.assigned.includes(peer) || round.delivered.includes(peer) || round.held.includes(peer))
    return round;
  return { ...round, held: [...round.held, peer] };
}

export function withoutPeer(round: Round | null, peer: string): Round | null {
  if (!round?.assigned.includes(peer) || round.delivered.includes(peer) || round.left.includes(peer))
    return round;
  return { ...round, left: [...round.left, peer] };
}

export function exclude(state: JobState, { peer, round }: { peer: string; round: number }): JobState {
  const { current } = state;
  if (!isOpen(state) || current?.number !== round || !current.assigned.includes(peer)) return state;
  const delivered = current.delivered.filter((other) => other !== peer);
  return {
    ...state,
    phase: delivered.length > 0 ? 'collecting' : 'training',
    current: { ...current, delivered, excluded: [...current.excluded, peer] },
  };
}
