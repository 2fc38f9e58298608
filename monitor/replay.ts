import type { JobEvent } from '../protocol/api/job-events.ts';

/** An update that arrived in the newest round. */
export interface MomentUpdate {
  readonly peer: string;
  /** Name of the node when the update arrived; empty if it was not present. */
  readonly name: string;
  /** Code of the newest receipt of the update. */
  readonly code: string;
  /** Text of this receipt that says more than its code; empty if the code alone says why. */
  readonly detail: string;
}

/** A ban of a peer. */
interface Ban extends Pick<Extract<JobEvent, { type: 'banned' }>, 'peer' | 'until' | 'scope'> {}

/** The state of a job at a past moment, as far as its events show it. */
export interface JobMoment {
  /** Sequence number of the newest event; 0 before the first event. */
  readonly sequence: number;
  /** Time of the newest event in milliseconds since 1970; null before the first event. */
  readonly at: number | null;
  /** `stopped`: the operator, or a sweep, stopped the job before its last round. */
  readonly phase: 'waiting' | 'training' | 'validating' | 'queued' | 'paused' | 'finished' | 'stopped';
  /** Reason for the phase, such as that of a pause or a null round; empty if there is none. */
  readonly reason: string;
  /** The newest round that was opened; 0 before the first round. */
  readonly round: number;
  /** Time at which the newest round was opened, in milliseconds since 1970; null before the first round. */
  readonly openedAt: number | null;
  /** Number of nodes that got an assignment in the newest round. */
  readonly assigned: number;
  /** Accepted and refused updates that arrived for the newest round, in the order of their arrival. */
  readonly updates: readonly MomentUpdate[];
  /** The newest checkpoint; null before the first one. */
  readonly checkpoint: { readonly round: number; readonly heldOutLoss: number | null } | null;
  /** Lowest held-out loss since the newest roll-back; null if none was measured. */
  readonly lowestLoss: number | null;
  /** Number of checkpoints without the initial one. */
  readonly roundsDone: number;
  /** Names of the nodes that were present, by their peer ids. */
  readonly present: ReadonlyMap<string, string>;
  /** The bans without a pardon. A peer can have several. Some may have ended, because no event says so. */
  readonly bans: readonly Ban[];
}

/** Types of events that change the state of a job, except those that only add or change updates of the open round. */
export const STATE_EVENTS = [
  'queued',
  'unqueued',
  'resumed',
  'peer-joined',
  'peer-held',
  'peer-lost',
  'round-opened',
  'round-closed',
  'checkpoint',
  'rolled-back',
  'caught-up',
  'null-round',
  'banned',
  'pardoned',
  'paused',
  'finished',
] as const satisfies readonly JobEvent['type'][];

/** The state of a job before its first event. */
export const NO_MOMENT: JobMoment = {
  sequence: 0,
  at: null,
  phase: 'waiting',
  reason: '',
  round: 0,
  openedAt: null,
  assigned: 0,
  updates: [],
  checkpoint: null,
  lowestLoss: null,
  roundsDone: 0,
  present: new Map(),
  bans: [],
};

/** Returns whether the receipt of an update says that the update counts. */
export function isAccepted({ code }: Pick<MomentUpdate, 'code'>): boolean {
  return code === 'accepted' || code === 'late';
}

/** Returns why an update was refused or not merged. */
export function whyNotMerged({ code, detail }: Pick<MomentUpdate, 'code' | 'detail'>): string {
  // Version 0.1.0 recorded no details of this code.
  const unknown = 'its round ended without a merge, or it came too late';
  if (code === 'null-round') return detail === '' ? unknown : detail;
  return detail === '' ? code : `${code}: ${detail}`;
}

/** Returns the state of the job after one more event. Pure. */
export function momentAfter(before: JobMoment, event: JobEvent): JobMoment {
  return { ...before, ...changesOf(before, event), sequence: event.sequence, at: event.at };
}

/** Returns the state of the job at a time after its newest event: without the bans that have ended since. */
export function atTime(moment: JobMoment, now: number): JobMoment {
  return { ...moment, bans: moment.bans.filter(({ until }) => until === null || until > now) };
}

/** Returns the ids of the peers that are banned at the time of the newest event. */
export function bannedPeers(moment: JobMoment): string[] {
  const { bans } = atTime(moment, moment.at ?? 0);
  return [...new Set(bans.map(({ peer }) => peer))];
}

function changesOf(before: JobMoment, event: JobEvent): Partial<JobMoment> {
  switch (event.type) {
    case 'queued':
      return { phase: 'queued' };
    case 'unqueued':
    case 'resumed':
      return { phase: 'waiting', reason: '' };
    case 'peer-joined':
      return { present: new Map(before.present).set(event.peer, event.name) };
    case 'peer-held':
      return event.joined ? { present: new Map(before.present).set(event.peer, event.name) } : {};
    case 'peer-lost':
      return { present: new Map([...before.present].filter(([peer]) => peer !== event.peer)) };
    case 'round-opened': {
      const { round, peers, at } = event;
      return { phase: 'training', reason: '', round, openedAt: at, assigned: peers, updates: [] };
    }
    case 'update': {
      const { round, peer, code, detail } = event;
      const update = { peer, name: before.present.get(peer) ?? '', code, detail };
      // A late update belongs to an earlier round, so the current round does not get it.
      return round === before.round ? { updates: [...before.updates, update] } : {};
    }
    case 'update-undone':
      if (event.round !== before.round) return {};
      return {
        updates: before.updates.map((update) =>
          update.peer === event.peer && isAccepted(update)
            ? { ...update, code: event.code, detail: event.detail }
            : update,
        ),
      };
    case 'round-closed':
      return { phase: 'validating' };
    case 'checkpoint': {
      const { round, heldOutLoss } = event;
      return {
        phase: 'waiting',
        checkpoint: { round, heldOutLoss },
        lowestLoss: lowest(before.lowestLoss, heldOutLoss),
        roundsDone: before.roundsDone + 1,
      };
    }
    case 'rolled-back': {
      const { round, heldOutLoss, reason } = event;
      const roundsDone = before.roundsDone + 1;
      return {
        phase: 'waiting',
        reason,
        checkpoint: { round, heldOutLoss },
        lowestLoss: heldOutLoss,
        roundsDone,
      };
    }
    case 'caught-up': {
      const { phase, round, heldOutLoss, roundsDone } = event;
      return {
        phase,
        reason: '',
        // The events do not tell what happened in the lost rounds, so the round has no time, nodes or
        // updates.
        round,
        openedAt: null,
        assigned: 0,
        updates: [],
        checkpoint: { round, heldOutLoss },
        lowestLoss: lowest(before.lowestLoss, heldOutLoss),
        roundsDone,
      };
    }
    case 'null-round':
      return { phase: 'waiting', reason: event.reason };
    case 'banned':
      return { bans: [...before.bans, { peer: event.peer, until: event.until, scope: event.scope }] };
    case 'pardoned': {
      const stays = (ban: Ban): boolean => event.scope === 'job' && ban.scope === 'all-jobs';
      return { bans: before.bans.filter((ban) => ban.peer !== event.peer || stays(ban)) };
    }
    case 'paused':
      return { phase: 'paused', reason: event.reason };
    case 'finished':
      return {
        phase: event.stopReason === undefined ? 'finished' : 'stopped',
        reason: event.stopReason ?? '',
      };
    default:
      return {};
  }
}

function lowest(...all: readonly (number | null)[]): number | null {
  const losses = all.filter((loss) => loss !== null);
  return losses.length === 0 ? null : Math.min(...losses);
}
