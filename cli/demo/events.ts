import type { JobEvent } from '../../index.ts';
import type { Part } from './data.ts';

/** An event of the demo. `DemoView` turns it into lines of text; with --json the event itself is printed. */
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
      /** Loss of the base on the held-out chapters, in nats per token. */
      baseLoss: number;
    }
  | ({ event: 'job-event' } & JobEvent)
  | { event: 'progress'; phase: string; round: number; secondsLeft: number | null; nodes: DemoNode[] }
  /** The swarm has ended, and the losses of base and adapter on the test chapters are measured. */
  | { event: 'testing' }
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

/** The last event of a demo. Programs that start a demo read its fields. */
export interface DemoSummary {
  event: 'summary';
  peers: number;
  rounds: number;
  /** Losses of base and adapter on the test chapters, in nats per token. */
  baseLoss: number;
  finalLoss: number;
  /** Mean size of one node's update of one round, in bytes per adapter parameter. */
  bytesPerParameterPerRound: number;
  wallSeconds: number;
  adapter: string;
}
