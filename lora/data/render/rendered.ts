export const TRAIN_ON = ['assistant', 'turns', 'completion', 'last', 'all'] as const;
/**
 * The choice of the tokens that are supervised:
 * - `assistant`: every assistant turn
 * - `turns`: every assistant turn, each at the end of a separate sample (see `eachAnswer`)
 * - `completion`: everything after the prompt; in a conversation, the last assistant turn
 * - `last`: the last assistant turn
 * - `all`: everything
 *
 * In plain text all tokens are supervised. Examples of the kinds `segments` and `tokens` have their own masks.
 * `renderExample` treats `turns` as `last`, because `eachAnswer` has already cut the conversation.
 */
export type TrainOn = (typeof TRAIN_ON)[number];

/** An example as tokens. */
export interface Rendered {
  ids: number[];
  /** 1 for each supervised token, 0 for all others; as long as `ids`. */
  trained: Uint8Array;
  /** Number of tokens that span a boundary between a prompt and an answer, or between an answer and the text after it. */
  merged: number;
}
