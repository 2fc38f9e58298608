import type { JobEvent } from '../../coordinator/api-types.ts';

/** What the demo tells as it goes: lines for people are made of it, and with --json it is the output. */
export type DemoEvent =
  | {
      event: 'start';
      folder: string;
      base: string;
      nodes: number;
      rounds: number;
      chapters: { train: number; heldOut: number };
    }
  | { event: 'coordinator-ready'; peer: string; addresses: string[]; api: string }
  | { event: 'job-created'; job: string; name: string; invite: string; parameters: number; baseLoss: number }
  | ({ event: 'job-event' } & JobEvent)
  | { event: 'progress'; phase: string; round: number; secondsLeft: number | null; nodes: DemoNode[] }
  | { event: 'node-lost'; node: string; lines: readonly string[] }
  | { event: 'sample'; prompt: string; before: string; after: string }
  | DemoSummary;

export interface DemoNode {
  name: string;
  state: string;
  step: number;
  steps: number;
  tokensPerSecond: number;
  bytesSent: number;
}

/** The last event. Exactly these fields: programs read them. */
export interface DemoSummary {
  event: 'summary';
  peers: number;
  rounds: number;
  baseLoss: number;
  finalLoss: number;
  bytesPerParameterPerRound: number;
  wallSeconds: number;
  adapter: string;
}
