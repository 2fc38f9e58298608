import type { JobEvent } from '../../coordinator/api/types.ts';
import type { Part } from './data.ts';

/** What the demo tells as it goes: lines for people are made of it, and with --json it is the output. */
export type DemoEvent =
  | {
      event: 'start';
      folder: string;
      base: string;
      nodes: number;
      rounds: number;
      chapters: Record<Part, number>;
    }
  | { event: 'coordinator-ready'; peer: string; addresses: string[]; api: string }
  | {
      event: 'job-created';
      job: string;
      name: string;
      invite: string;
      parameters: number;
      /** On the chapters that the gate looks at, as the held-out losses of the rounds. */
      baseLoss: number;
    }
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
  /** Of base and adapter on the test chapters; nats per token. */
  baseLoss: number;
  finalLoss: number;
  bytesPerParameterPerRound: number;
  wallSeconds: number;
  adapter: string;
}
