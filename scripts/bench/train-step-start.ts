/**
 * Measures the time to start a trainer and take its first step. Runs in a separate process, from which the trainer
 * inherits its environment. Reads the setup (JSON) from the first line of standard input. For every further line it
 * starts a trainer process on a model folder with these weights, takes one step, and answers with a line of JSON:
 * {milliseconds, cpuMilliseconds, loss, peakBytes}. The time of the first answer includes hashing and converting the
 * base, which happens only once.
 *
 * Usage: node train-step-start.ts FOLDER
 */

import { open, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { loraConfig } from '../../lora/adapter/lora-config.ts';
import { elementCount } from '../../lora/graph/shapes.ts';
import { writeSafetensors } from '../../lora/models/weights/safetensors-writer.ts';
import { SINGLE_FILE } from '../../lora/models/weights/tensors.ts';
import { processorCompute } from '../../lora/train/compute.ts';
import { trainingConfigSchema } from '../../lora/train/config.ts';
import { TrainerProcess } from '../../lora/train/process/supervisor.ts';
import { cpuMilliseconds } from './cpu-time.ts';
import { architectureOf, benchRows, type Setup, weightFile } from './train-step-setup.ts';

const folder = process.argv[2]!;
const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const setup = JSON.parse((await lines.next()).value ?? '') as Setup;
await writeModel();
const rows = benchRows(setup, 1);
const options = {
  modelDir: folder,
  cacheDir: join(folder, 'cache'),
  compute: processorCompute({ threads: setup.threads }),
  lora: loraConfig({ rank: setup.rank, alpha: setup.rank }),
  training: trainingConfigSchema.parse({
    batchSize: setup.rows,
    microBatch: setup.rows,
    sequenceLength: setup.rowTokens,
  }),
};

for await (const _ of lines) {
  const start = performance.now();
  const trainer = await TrainerProcess.start(options);
  const adapter = trainer.layout.map(({ shape }) => new Float32Array(elementCount(shape)).fill(0.01));
  let milliseconds = Number.NaN;
  const { lossFirst } = await trainer.train({
    adapter,
    rows,
    steps: 1,
    onProgress: () => {
      milliseconds = performance.now() - start;
    },
  });
  await trainer.stop();
  const step = { milliseconds, cpuMilliseconds: cpuMilliseconds(), loss: lossFirst, peakBytes: 0 };
  process.stdout.write(`${JSON.stringify(step)}\n`);
}

/** Writes the files that `openBase` needs. The tokenizer is never used. */
async function writeModel(): Promise<void> {
  await writeFile(join(folder, 'config.json'), JSON.stringify(setup.huggingFaceConfig));
  await writeFile(join(folder, 'tokenizer.json'), JSON.stringify({ model: {} }));
  const { entries, path } = weightFile(setup);
  const file = await open(path);
  try {
    const tensors = architectureOf(setup.config)
      .parameters(setup.config)
      .map(({ name, shape }) => {
        const { offset, length } = entries.get(name)!;
        const data = async function* () {
          const bytes = new Uint8Array(length);
          await file.read(bytes, 0, length, offset);
          yield bytes;
        };
        return { name, dtype: 'F32' as const, shape, data };
      });
    await writeSafetensors(join(folder, SINGLE_FILE), tensors);
  } finally {
    await file.close();
  }
}
