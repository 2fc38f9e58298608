import type { Origin } from '../../protocol/api/job-creation.ts';
/** Examples: the content of data records before tokenising. There is one shape per kind of data. */

/** One turn of a conversation, in the shape that chat templates expect. */
export interface Message {
  role: string;
  /**
   * Text of the turn; empty if the turn only calls tools. If the data has a list of parts instead of a text, the text
   * parts are joined. A record with other parts, such as images, cannot be used.
   */
  content: string;
  name?: string;
  tool_calls?: unknown[];
  tool_call_id?: string;
  /** All other properties of the turn (`weight`, `reasoning_content`, …), which the template may use. */
  [more: string]: unknown;
}

/** A part of a text. Either all its tokens count in the loss, or none. */
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
      /** Text that the instruction refers to. Empty if the record has no input. */
      input: string;
      output: string;
      system: string | null;
      /** Earlier turns as [question, answer], the oldest first. */
      history: [string, string][];
    }
  | { kind: 'segments'; segments: Segment[] }
  /**
   * Token ids with labels. `labels` has the length of `ids` and is not shifted: labels[i] belongs to ids[i], and is −100
   * for tokens that are not supervised.
   */
  | { kind: 'tokens'; ids: number[]; labels: number[] };

export type Example = { origin: Origin } & ExampleBody;

/**
 * Formats of records. Records of `sharegpt` become examples of kind `messages`, records of `alpaca` of kind
 * `instruction`.
 */
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
