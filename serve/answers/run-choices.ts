import { type Choice, type ChoiceDeps, choicePieces, type Piece } from './choice.ts';

/** A piece of a choice, with the index of the choice in the request. */
export interface IndexedPiece extends Piece {
  readonly index: number;
}

/**
 * Computes the choices of a request and yields their pieces in the order in which they are computed. The computation
 * does not wait until the caller takes a piece, so a slow client does not slow down the generator. If the caller leaves
 * the iteration, the computation stops.
 *
 * @throws the first error of a choice, after stopping the other choices; the signal's reason
 */
export async function* runChoices(
  choices: readonly Choice[],
  { generator, client, signal: outer }: ChoiceDeps,
): AsyncGenerator<IndexedPiece, void, undefined> {
  const left = new AbortController();
  const signal = AbortSignal.any([outer, left.signal]);
  const ready: IndexedPiece[] = [];
  let wake = (): void => {};
  let running = choices.length;
  let failure: { error: unknown } | null = null;

  const compute = async (choice: Choice, index: number): Promise<void> => {
    for await (const piece of choicePieces(choice, { generator, client, signal })) {
      ready.push({ ...piece, index });
      wake();
    }
  };
  const ended = choices.map((choice, index) =>
    compute(choice, index)
      .catch((error: unknown) => {
        failure ??= { error };
        left.abort(error);
      })
      .finally(() => {
        running--;
        wake();
      }),
  );
  try {
    for (;;) {
      const news = new Promise<void>((resolve) => {
        wake = resolve;
      });
      yield* ready.splice(0);
      if (failure !== null) throw (failure as { error: unknown }).error;
      if (running === 0 && ready.length === 0) return;
      if (ready.length === 0) await news;
    }
  } finally {
    left.abort();
    await Promise.all(ended);
  }
}
