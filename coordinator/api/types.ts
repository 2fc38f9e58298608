import type { ErrorJson } from '../../common/errors.ts';
import type { RowTally } from '../../lora/data/packing/tally.ts';
import type { RowSummary } from '../../lora/data/row-report.ts';
import type { JobEvent } from '../../monitor/job-events.ts';
import type { Manifest } from '../../protocol/manifest.ts';
import type { Checkpoint, Heartbeat } from '../../protocol/messages.ts';
import type { ReceiptCode } from '../../protocol/receipts.ts';
import type { JobState } from '../round/state.ts';

/** Answers of the control API (docs/protocol.md, HTTP on loopback, bearer token). The CLI prints these. */

export interface CoordinatorStatus {
  schemaVersion: 1;
  role: 'coordinator';
  peerId: string;
  addresses: string[];
  version: string;
  uptimeSeconds: number;
  traffic: { sent: number; received: number };
  jobs: JobSummary[];
}

export interface JobSummary {
  job: string;
  name: string;
  phase: JobState['phase'];
  /** The round in progress (or the last one when finished), 1-based. */
  round: number;
  /** Null rounds come on top of those that end in a checkpoint. */
  rounds: number;
  /** Seconds until the round's deadline; null outside of training. */
  secondsLeft: number | null;
  peers: number;
  baseLoss: number | null;
  heldOutLoss: number | null;
  checkpoint: { round: number; digest: string };
  tokensPerSecond: number;
  reason: string;
  /** It paused itself, for the reason that it gives, and goes on only when its operator says so. */
  needsOperator: boolean;
  /** One line to paste on another machine: `swarm node <invite>`. */
  invite: string;
}

export interface JobDetail extends JobSummary {
  manifest: Manifest;
  createdAt: number;
  updates: { round: number; assigned: string[]; received: string[] };
}

export interface PeerView {
  peer: string;
  name: string;
  job: string;
  jobName: string;
  address: string | null;
  connected: boolean;
  /** `left`: it said goodbye; `lost`: it fell silent. */
  state: Heartbeat['state'] | 'left' | 'lost';
  round: number;
  step: number;
  steps: number;
  tokensPerSecond: number;
  engine: string;
  rttMs: number | null;
  lastSeenSeconds: number;
  accepted: number;
  refused: number;
  last: { round: number; code: ReceiptCode; detail: string } | null;
  bytesSent: number;
  bytesReceived: number;
}

/** `swarm peers --why PEER`: every receipt of a peer, newest first. */
export interface PeerReceipts {
  peer: string;
  receipts: { job: string; round: number; code: ReceiptCode; detail: string; meaning: string; at: number }[];
}

export interface CheckpointView {
  round: number;
  digest: string;
  parent: string | null;
  /** Folder in PEFT layout on the coordinator's machine. */
  path: string;
  /** Whether its weights are still here; older checkpoints keep only what is signed. */
  kept: boolean;
  checkpoint: Checkpoint;
}

/** Lines of the answer to POST /v1/jobs: progress while base and data are taken in, then the job. */
export type CreateJobLine =
  | { event: 'progress'; stage: 'base' | 'data' | 'adapter' | 'baseline'; done: number; total: number }
  /** Rows of the training files, with those that could not be used, and what became of their samples. */
  | { event: 'data'; read: RowSummary; tally: RowTally }
  | { event: 'created'; job: string; name: string; invite: string }
  | ({ event: 'error' } & ErrorJson);

export type { JobEvent };
