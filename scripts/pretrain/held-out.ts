/** Measures the loss of the model on the held-out speeches. */

import type { Row } from '../../lora/data/row.ts';
import type { TextTokenizer } from '../../lora/data/tokenizer.ts';
import type { Engine } from '../../lora/engines/engine.ts';
import { llama } from '../../lora/models/families/llama.ts';
import { lossGraph, rowLosses } from '../../lora/train/step.ts';
import type { Speech } from './corpus.ts';
import { packedRows } from './pack-documents.ts';
import { MODEL, STAGES, type Stage } from './recipe.ts';
import { trainableParameters } from './trainable-parameters.ts';

/** Losses are measured on rows of the full context length. */
const { batch, length }: Stage = STAGES.at(-1)!;
/** Number of rows that are evaluated for a report during training. The README's losses are over all held-out rows. */
const REPORT_ROWS = 48;

export interface HeldOutLoss {
  /** Loss in nats per supervised token. */
  loss: number;
  tokens: number;
  /** Bits of all supervised tokens, end-of-text tokens included, per UTF-8 byte of text. */
  bitsPerByte: number;
}

export interface HeldOut {
  /** Loss over all held-out rows. */
  whole(parameters: readonly Float32Array[]): Promise<HeldOutLoss>;
  /** Loss over an evenly spread sample of the held-out rows. */
  sample(parameters: readonly Float32Array[]): Promise<HeldOutLoss>;
  dispose(): Promise<void>;
}

export async function openHeldOut(
  engine: Engine,
  tokenizer: TextTokenizer,
  speeches: readonly Speech[],
): Promise<HeldOut> {
  const texts = speeches.map(({ text }) => text);
  const bytes = texts.reduce((sum, text) => sum + Buffer.byteLength(text), 0);
  const rows = await packedRows(texts, tokenizer, { sequenceLength: length });
  const some = rows.filter((_, i) => i % Math.ceil(rows.length / REPORT_ROWS) === 0);
  const size = { ...MODEL, batch, length };
  const graph = lossGraph(size, (g) => trainableParameters(g, llama, MODEL.config));
  const names = llama.parameters(MODEL.config).map(({ name }) => name);
  const executable = await engine.compile(graph, null);

  const evaluate = async (
    part: readonly Row[],
    parameters: readonly Float32Array[],
  ): Promise<HeldOutLoss> => {
    const named = new Map(names.map((name, i) => [name, parameters[i]!]));
    const losses = await rowLosses(executable, part, named, { batch, length, pause: async () => {} });
    const lossSum = losses.reduce((sum, row) => sum + row.lossSum, 0);
    const tokens = losses.reduce((sum, row) => sum + row.tokens, 0);
    const partBytes = (bytes * part.length) / rows.length;
    return { loss: lossSum / tokens, tokens, bitsPerByte: lossSum / Math.LN2 / partBytes };
  };
  return {
    whole: (parameters) => evaluate(rows, parameters),
    sample: (parameters) => evaluate(some, parameters),
    dispose: () => executable.dispose(),
  };
}
