/** The methods of a generator process, and the options to start one. */
import type { BaseBits } from '../../models/base/base-bits.ts';
import type { ScoredToken } from '../types.ts';
import type { ChosenToken, EndReason, ScoredSequence, SequenceRequest } from '../work.ts';

export interface GeneratorProcessOptions {
  /** Folder of the base model, in Hugging Face layout. */
  modelDir: string;
  /** Folder where converted weights are kept. */
  cacheDir: string;
  threads: number;
  baseBits: BaseBits;
  /** This field and the three fields below are the same as in `OpenGeneratorOptions`. */
  context: number;
  rows: number;
  waiting: number;
  cacheBytes: number;
}

type Remote<Request> = Omit<Request, 'adapter'> & {
  /** Id of a loaded adapter; null for the base alone. */
  adapter: string | null;
};

/** Status of the scheduler, as `status` reports it. */
export interface ProcessStatus {
  running: number;
  waiting: number;
  cacheBytes: number;
  prefixBytes: number;
  memoryBytes: number;
  adapters: string[];
}

/** Methods of a generator process. The process serves calls concurrently (see common/workers/calls.ts). */
export type GeneratorMethods = {
  start: { request: GeneratorProcessOptions; reply: null };
  generate: { request: Remote<SequenceRequest>; reply: EndReason; progress: ChosenToken };
  score: { request: Remote<ScoredSequence>; reply: ScoredToken[] };
  /** Loads the adapter in a PEFT folder. Replies with the id of the adapter. */
  addAdapter: { request: { folder: string }; reply: string };
  removeAdapter: { request: { id: string }; reply: null };
  status: { request: null; reply: ProcessStatus };
  /** Releases the engine; the process ends after the reply. */
  stop: { request: null; reply: null };
};
