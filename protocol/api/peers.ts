import type { HoldReason } from '../holds.ts';
import type { Heartbeat } from '../messages.ts';
import type { ReceiptCode } from '../receipts.ts';
import type { Role } from '../requests/member-status.ts';
import type { HealthMark } from './health.ts';
import type { Standing, StrikeKind } from './job-events.ts';

/** A node of a job, or a node that cannot join: its state, and the outcome of its updates. */
export interface PeerView {
  peer: string;
  name: string;
  /** The person who answers for the node: `invite:ID` if it joined with a personal invite, else its peer id. */
  person: string;
  role: Role;
  /** Digest of the job; empty for a node of another version that is a member of no job. */
  job: string;
  /** Name of the job; empty if `job` is empty. */
  jobName: string;
  address: string | null;
  connected: boolean;
  /** State in the newest heartbeat. `left` means that the node said goodbye, and `lost` that its heartbeats stopped. */
  state: Heartbeat['state'] | 'left' | 'lost';
  /** Reason why the node takes no work for now; null if it takes work. */
  hold: { reason: HoldReason; detail: string } | null;
  round: number;
  step: number;
  steps: number;
  tokensPerSecond: number;
  engine: string;
  rttMs: number | null;
  lastSeenSeconds: number;
  /** Seconds since the node's state, round, step or download last changed. */
  stillSeconds: number;
  /** Level of the node's health, and the reason. monitor/health-rules.ts has the rules. */
  health: HealthMark;
  /** Number of the node's updates that count, or may still count, in a merge. */
  accepted: number;
  /** Number of the node's updates that the coordinator or a merge refused. */
  refused: number;
  /** Number of the node's updates that were accepted, but not merged, for example because the job was paused. */
  unmerged: number;
  /** Number of tokens in the node's merged updates. */
  tokens: number;
  last: { round: number; code: ReceiptCode; detail: string } | null;
  standing: Standing;
  /** Number of strikes of the person who answers for the node that were not pardoned. */
  strikes: number;
  /** The newest score of the node's updates; null if none has been scored. */
  score: PeerScore | null;
  bytesSent: number;
  bytesReceived: number;
}

/** The belief in a node, and the figures of one of its updates. */
export interface PeerScore {
  job: string;
  /** The round whose merge included the update. */
  round: number;
  /**
   * Factor, from 0 to 1, by which the weight of the node's updates is multiplied: the mean of the newest shares, or 0
   * if that mean is below 0.2.
   */
  belief: number;
  /**
   * Number from 0 to 1 that compares the update's effect and gain with the medians of its round; null if they could not
   * be compared.
   */
  share: number | null;
  /**
   * Estimate of how much the update lowers the loss on random rows, in nats per token; null if it was not measured.
   */
  effect: number | null;
  /**
   * Estimate of how much more the update lowers the loss on rows of its author's interval than on random rows, in nats
   * per token; null if it was not measured.
   */
  gain: number | null;
  /**
   * Measured decrease of the loss on random rows after the whole update was applied, in nats per token; null
   * if it was not measured. The decrease is measured only for authors that are new or have low shares.
   */
  exact: number | null;
}

/** Facts that the coordinator knows about a peer, for `lora-swarm peers --why PEER`. */
export interface PeerReceipts {
  peer: string;
  /** The newest receipts of the peer, at most 200 for each job, newest first. */
  receipts: {
    job: string;
    jobName: string;
    round: number;
    code: ReceiptCode;
    detail: string;
    meaning: string;
    /** Whether the update is part of a checkpoint. */
    isMerged: boolean;
    at: number;
  }[];
  /** The scores of the newest updates of the peer, at most 20 for each job, newest first. */
  scores: (PeerScore & { jobName: string })[];
  /** The standing of the person who answers for the peer, in each job that knows the peer. */
  standings: PeerStanding[];
  /** All strikes of the person who answers for the peer, newest first. */
  strikes: PeerStrike[];
  /** All bans of the person who answers for the peer, newest first. */
  bans: BanView[];
}

/** The standing of a person in a job. */
export interface PeerStanding {
  job: string;
  jobName: string;
  person: string;
  /** The personal invite that the node joined with; null if it joined without one. */
  invite: { id: string; name: string | null } | null;
  standing: Standing;
  /** The last round of a probation or suspension; null if the person is in good standing or banned. */
  untilRound: number | null;
  /** Number of strikes that were not pardoned. Some of them may have expired. */
  strikes: number;
}

/** A recorded misdeed, with its evidence. */
export interface PeerStrike {
  job: string;
  jobName: string;
  /** The node of the person that misbehaved. */
  peer: string;
  kind: StrikeKind;
  /** The kind in words. */
  meaning: string;
  /** The round of the misdeed. */
  round: number;
  /** The round that was the newest when the coordinator found the misdeed. */
  foundIn: number;
  /** Digest of the update's payload; null for a misdeed that is not a single update. */
  digest: string | null;
  /** Figures that show the misdeed, for example `effect`, its standard error `error`, `gain` and `share`. */
  figures: Record<string, number>;
  /** Code of the newest receipt of the update; null if there is none. */
  receipt: ReceiptCode | null;
  at: number;
  pardonedAt: number | null;
}

/** A node that was removed from a job after a ban or a revoked invite, with the name that it had there. */
export interface FormerPeer {
  peer: string;
  name: string;
}

/** How a node is banned. */
export interface BanOptions {
  /** The job from which the node is banned; null for all jobs. @default null */
  job?: string | null;
  /** Reason of up to 200 characters, which the node sees. @default none */
  reason?: string;
  /** Duration in milliseconds; null if the ban never ends. @default null */
  forMs?: number | null;
}

/** A ban of a peer. It applies to all peers of the same person. */
export interface BanView {
  peer: string;
  /** Name of the peer; null if the coordinator never knew it. */
  name: string | null;
  person: string;
  /** Name of the personal invite that the person uses; null if the invite has no name, or the person uses none. */
  inviteName: string | null;
  /** Digest of the job from which the person is banned; null if the person is banned from all jobs. */
  job: string | null;
  /** Name of that job; null if the person is banned from all jobs, or if the coordinator does not have the job. */
  jobName: string | null;
  /**
   * `proof`: the peer signed two different updates of one round. `strikes`: the person was suspended too often.
   * `operator`: the operator used `lora-swarm peers ban`.
   */
  cause: 'proof' | 'strikes' | 'operator';
  reason: string;
  at: number;
  /** Time at which the ban ends, in ms since the epoch; null if it never ends. */
  until: number | null;
  pardonedAt: number | null;
}
