/** What people train on, after reading and before any tokenizer: one shape per kind of data. */

/** Where an example came from, for messages to people. */
export interface Origin {
  readonly file: string;
  /** From 1: the line in formats of lines (CSV: of the row's first line), else the number of the row. */
  readonly row: number;
}

/** One turn of a conversation, in the shape that chat templates expect. */
export interface Message {
  role: string;
  /** Empty where a turn only calls tools. Parts of text are joined; other parts make a row unusable. */
  content: string;
  name?: string;
  tool_calls?: unknown[];
  tool_call_id?: string;
  /** Everything else that the row says of the turn (`weight`, `reasoning_content`, …), for the template. */
  [more: string]: unknown;
}

/** A stretch of text with its own mask. */
export interface Segment {
  text: string;
  trained: boolean;
}

export type ExampleBody =
  | { kind: 'text'; text: string }
  | { kind: 'completion'; prompt: string | Message[]; completion: string | Message[]; tools?: unknown[] }
  | { kind: 'messages'; messages: Message[]; tools?: unknown[] }
  | {
      kind: 'instruction';
      instruction: string;
      /** Empty where there is none. */
      input: string;
      output: string;
      system: string | null;
      /** Earlier turns, oldest first: what was asked and answered. */
      history: [string, string][];
    }
  | { kind: 'segments'; segments: Segment[] }
  /** `labels` has the length of `ids`, is NOT shifted, and holds −100 where nothing is trained. */
  | { kind: 'tokens'; ids: number[]; labels: number[] };

export type Example = { origin: Origin } & ExampleBody;

/** Formats of rows, by the names that `format` takes. `sharegpt` arrives as messages, `alpaca` as instruction. */
export const FORMATS = [
  'text',
  'completion',
  'messages',
  'sharegpt',
  'alpaca',
  'segments',
  'tokens',
] as const;
export type Format = (typeof FORMATS)[number];
