import type { ErrorJson } from '../../common/errors.ts';
import type { Head } from '../messages.ts';

/** One line of the answer to POST /v1/jobs: progress of the preparation, then the job or the error. */
export type CreateJobLine =
  | { event: 'progress'; stage: 'base' | 'data' | 'adapter' | 'baseline'; done: number; total: number }
  /**
   * `read`: number of records in the training files, and how many are unusable. `tally`: how the samples of the usable
   * records were packed. `heldOutPart`: the same for the held-out part of the data; null for a copy of a job,
   * which keeps the held-out rows of the job. Its `read` is null if the held-out samples are a fraction of the training
   * files.
   */
  | { event: 'data'; read: RowSummary; tally: RowTally; heldOutPart: PartCounts | null }
  /** `isNew`: whether the job was created; false if it existed already. */
  | { event: 'created'; job: string; name: string; invite: string; isNew: boolean }
  | ({ event: 'error' } & ErrorJson);

/** The place of a new job among the jobs of a coordinator. */
export interface NewPlace {
  /** Wherever the coordinator chooses between jobs, a job with a higher priority comes first. @default 0 */
  readonly priority?: number;
  /** Name, digest or prefix of the digest of the job that must end before the new one opens. @default none */
  readonly after?: string | null | undefined;
}

/** The figures of a job, measured on its base and data without creating the job. Sizes are in bytes. */
export interface JobCheck {
  readonly base: { readonly name: string; readonly parameters: number; readonly bytes: number };
  readonly data: {
    readonly rows: number;
    /** Number of supervised tokens. */
    readonly tokens: number;
    /** Bytes of all data shards. A node fetches at most this number of bytes. */
    readonly bytes: number;
    readonly heldOut: { readonly rows: number; readonly tokens: number } & PartCounts;
    /**
     * Number of records in the training files, and number of unusable records. If too many are unusable, `checkJob`
     * throws DATA_BAD_ROWS instead.
     */
    readonly read: RowSummary;
    /** Counts of the training samples that were packed, cut or left out. */
    readonly tally: RowTally;
  };
  readonly adapter: { readonly parameters: number; readonly bytes: number };
  /**
   * Maximum size of an update at each preset that rounds may use. With "auto", the number of nodes in a round decides
   * between two presets.
   */
  readonly update: readonly { readonly preset: Head['preset']; readonly bytes: number }[];
  /** Warnings about the data, each with advice. */
  readonly warnings: readonly { readonly message: string; readonly next: string }[];
  /** Size of the manifest that every node gets. */
  readonly manifestBytes: number;
}

/** Counts of one part of a job's data. */
export interface PartCounts {
  /**
   * Number of records in the files of the part, and number of records that could not be read or rendered. It is null if
   * the held-out samples are a fraction of the training files, because the numbers of the training files include them.
   */
  readonly read: RowSummary | null;
  /** Counts of the samples that were packed, cut or left out. */
  readonly tally: RowTally;
  /** Share of the held-out data that the training data contains too, from 0 to 1. */
  readonly overlap: number;
}

/** Number of records, and the reasons why some cannot be used. */
export interface RowSummary {
  /** Number of records read. */
  rows: number;
  /** Number of records that cannot be used. */
  bad: number;
  /** Reasons, the most frequent first, each with its first bad records (at most 10), in the order of files and rows. */
  reasons: { code: string; count: number; rows: BadRow[] }[];
}

/** A record that cannot be used. */
export interface BadRow {
  origin: Origin;
  /** Reason code, such as `ROW_NOT_JSON`. A summary counts the bad records of each code. */
  code: string;
  /** Description of the problem, with the wrong value. */
  reason: string;
}

/** Numbers of samples that were packed, cut or left out, and of the resulting rows and tokens. */
export interface RowTally {
  /** Number of rendered samples. */
  samples: number;
  /** Number of tokens of all samples before truncation. */
  sampleTokens: number;
  /** Number of tokens of the longest sample before truncation. */
  longest: number;
  /** Number of samples that were too long for a row and were cut to fit. */
  truncated: number;
  /** Number of samples that were too long for a row and were left out. */
  dropped: number;
  /** Number of samples that were too long for a row and were split into several pieces. */
  split: number;
  /** Number of samples that were left out because they have no supervised token. */
  untrained: number;
  /** The first ten of these samples, each with the reason why it has no supervised token. */
  untrainedRows: { origin: Origin; reason: string }[];
  /**
   * Number of training samples that were left out because they are also held-out samples. Only the copy of a
   * job (`lora-swarm job clone`) leaves such samples out.
   */
  heldOut: number;
  /** Number of samples in which one token spans the end of a prompt and the start of an answer. */
  merged: number;
  rows: number;
  /**
   * Number of tokens in rows, without padding. The fill ratio is this number divided by the number of tokens
   * that all rows can hold.
   */
  rowTokens: number;
  /** Number of supervised tokens, which are the tokens that the loss counts. */
  trainedTokens: number;
}

/** The place that an example comes from, for messages. */
export interface Origin {
  readonly file: string;
  /**
   * Number of the record's first line in JSON lines and CSV, and number of the record in other files. Counted from 1.
   */
  readonly row: number;
}
