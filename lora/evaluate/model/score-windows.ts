/**
 * Computes log-probabilities of whole texts. The graph returns one loss per token instead of the logits, which would be
 * far larger.
 */

import { nextTurn } from '../../../common/abort-reason.ts';
import { layOut, type Piece as RowPiece } from '../../data/packing/pieces.ts';
import { IGNORED_LABEL, type Row } from '../../data/row.ts';
import { adaptedParameters } from '../../train/adapted-model.ts';
import { lossGraph, rowFeeds } from '../../train/step.ts';
import { adapterFeeds, type ModelBundle } from '../model-bundle.ts';
import type { TokenSequence } from './encode.ts';
import type { ModelOptions } from './language-model.ts';
import { type PlacedPiece, placePieces } from './layout.ts';
import { rowLength } from './score-sequences.ts';

/** Number of tokens that one run of a graph computes. */
const TOKENS_PER_RUN = 1024;

/** Returns the log-probability of the scored tokens of each window. */
export async function scoreWindows(
  bundle: ModelBundle,
  windows: readonly TokenSequence[],
  { onProgress, signal }: ModelOptions = {},
): Promise<number[]> {
  const { model, engine, weights, adapter } = bundle;
  const sums = windows.map(() => 0);
  const longest = windows.reduce((most, { ids }) => Math.max(most, ids.length - 1), 1);
  const length = rowLength(longest, model.config.maxPositions);
  const size = { ...model, length, batch: Math.max(1, Math.floor(TOKENS_PER_RUN / length)) };
  const graph = lossGraph(size, (g) => adaptedParameters(g, model, adapter?.lora ?? null));
  const executable = await engine.compile(graph, weights);
  const fixed = Object.fromEntries(adapterFeeds(bundle));
  const pieces = windows.map(({ ids }, i) => ({ ids: ids.slice(0, -1), members: [i] }));
  const rows = Map.groupBy(placePieces(pieces, length), ({ row }) => row);
  let done = 0;
  try {
    for (let start = 0; start < rows.size; start += size.batch) {
      await nextTurn(signal);
      const some = Array.from(
        { length: Math.min(size.batch, rows.size - start) },
        (_, i) => rows.get(start + i)!,
      );
      const packed = some.map((placed) => packedRow(placed, windows, length));
      const { losses } = await executable.run({ ...rowFeeds(packed, size), ...fixed });
      for (const [r, placed] of some.entries()) {
        for (const { piece, start: offset } of placed) {
          const window = piece.members[0]!;
          const first = r * length + offset;
          for (let i = 0; i < piece.ids.length; i++) sums[window]! -= losses![first + i]!;
          done++;
        }
      }
      onProgress?.(done);
    }
  } finally {
    await executable.dispose();
  }
  return sums;
}

/** Makes a row of windows. Only scored tokens have a label. The loss of all other tokens is 0. */
function packedRow(placed: readonly PlacedPiece[], windows: readonly TokenSequence[], length: number): Row {
  const pieces = placed.map(({ piece }): RowPiece => {
    const { ids, from } = windows[piece.members[0]!]!;
    return { ids: piece.ids, labels: ids.slice(1).fill(IGNORED_LABEL, 0, from - 1) };
  });
  return layOut(pieces, length);
}
