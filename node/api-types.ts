import type { Head, Heartbeat } from '../protocol/messages.ts';
import type { ReceiptCode } from '../protocol/receipts.ts';
import type { Outcome } from './machine/pending-update.ts';

/** Answer of GET /v1/status of a node (HTTP on loopback). The CLI prints it. */
export interface NodeStatus {
  schemaVersion: 1;
  role: 'node';
  peerId: string;
  name: string;
  version: string;
  addresses: string[];
  uptimeSeconds: number;
  traffic: { sent: number; received: number };
  /** Empty before it is known. */
  engine: string;
  /** Why it is this engine, or what a device that failed has changed; null before it is known. */
  engineNote: string | null;
  /** Times that the trainer process died and was started again. */
  trainerRestarts: number;
  coordinator: { addresses: string[]; peer: string | null; connected: boolean };
  job: NodeJob | null;
  state: Heartbeat['state'];
  /** Why the node waits; empty while it works. */
  reason: string;
  /** 0 before the first head. */
  round: number;
  /** Optimiser steps made of those planned in this round. */
  step: number;
  steps: number;
  tokensPerSecond: number;
  /** What is being fetched; null when nothing is. */
  download: { what: 'base' | 'data' | 'adapter'; bytes: number; total: number } | null;
  /** Own updates, newest first, each with what became of it. */
  updates: NodeUpdate[];
}

export interface NodeJob {
  job: string;
  name: string;
  base: { name: string; digest: string; parameters: number };
  adapterParameters: number;
  /** null before the first head. */
  phase: Head['phase'] | null;
  /** As the coordinator counts them: null rounds come on top of those that end in a checkpoint. */
  rounds: number;
  preset: Head['preset'] | null;
  checkpoint: { round: number; digest: string; heldOutLoss: number | null } | null;
}

export interface NodeUpdate {
  job: string;
  round: number;
  update: string;
  bytes: number;
  /** null before the first receipt. */
  code: ReceiptCode | null;
  detail: string;
  meaning: string;
  /** null while its fate is open. */
  outcome: Outcome | null;
  at: number;
}
