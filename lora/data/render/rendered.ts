export const TRAIN_ON = ['assistant', 'turns', 'completion', 'last', 'all'] as const;
/**
 * Which tokens are trained:
 * - `assistant`: every assistant turn
 * - `turns`: every assistant turn, each in a sample of its own that ends with it (see `eachAnswer`)
 * - `completion`: everything after the prompt; in a conversation, the last assistant turn
 * - `last`: the last assistant turn
 * - `all`: everything
 *
 * Plain text is always trained whole. Segments and tokens carry their own masks. `renderExample` treats `turns` as
 * `last`, because `eachAnswer` has cut the conversation before.
 */
export type TrainOn = (typeof TRAIN_ON)[number];

/** An example as tokens. */
export interface Rendered {
  ids: number[];
  /** [ids.length] 1 where the token is trained. */
  trained: Uint8Array;
  /** Tokens that span a boundary: the end of a prompt and the start of an answer, or an answer and the text after it. */
  merged: number;
}
