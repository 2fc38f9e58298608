/**
 * Compares the estimates of `lora-swarm train --dry-run` with a real trainer. The estimated memory is
 * compared with the peak of the trainer process (VmHWM, Linux only), and the estimated time of a step with
 * the trainer's fastest step.
 *
 * Usage: node scripts/bench/estimate.ts [model folder]
 */

import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { initialAdapter } from '../../lora/adapter/initial.ts';
import { loraConfig } from '../../lora/adapter/lora-config.ts';
import type { Row } from '../../lora/data/row.ts';
import { createEngine } from '../../lora/engines/engine.ts';
import { openBase } from '../../lora/models/base/base-model.ts';
import { processorCompute } from '../../lora/train/compute.ts';
import { trainingConfigSchema } from '../../lora/train/config.ts';
import { measureSpeed, secondsPerStep } from '../../lora/train/devices/speed.ts';
import { estimateTraining } from '../../lora/train/memory/estimate.ts';
import { TrainerProcess } from '../../lora/train/process/supervisor.ts';

const SHAPES = [
  { microBatch: 8, sequenceLength: 128, rank: 16 },
  { microBatch: 2, sequenceLength: 128, rank: 16 },
  { microBatch: 4, sequenceLength: 512, rank: 64 },
];
const STEPS = 4;

const modelDir = resolve(process.argv[2] ?? 'models/nano');
const cacheDir = await mkdtemp(join(tmpdir(), 'estimate-'));
const model = await openBase(modelDir);
const { vocabularySize, hiddenSize: width } = model.config;
const { signal } = new AbortController();

function row(length: number, seed: number): Row {
  const at = (t: number) => ((seed + t) * 7919) % vocabularySize;
  return {
    ids: Uint32Array.from({ length }, (_, t) => at(t)),
    labels: Int32Array.from({ length }, (_, t) => at(t + 1)),
    segments: new Uint16Array(length).fill(1),
  };
}

for (const { rank, ...shape } of SHAPES) {
  const lora = loraConfig({ rank, alpha: 32 });
  const compute = processorCompute({ threads: 1 });
  const training = trainingConfigSchema.parse({ ...shape, batchSize: shape.microBatch });
  const { memory, work } = estimateTraining(model, { lora, training, compute });
  const tokens = shape.microBatch * shape.sequenceLength;
  const engine = await createEngine('onnx-cpu', { threads: 1 });
  const speed = await measureSpeed(engine, { tokens, width, signal });
  const trainer = await TrainerProcess.start({ modelDir, cacheDir, lora, training, compute });
  const adapter = await initialAdapter(model, lora, 0);
  const idle = await peakBytes(trainer.pid!);
  let fastest = Number.POSITIVE_INFINITY;
  let before = performance.now();
  await trainer.train({
    adapter,
    rows: Array.from({ length: STEPS * shape.microBatch }, (_, i) => row(shape.sequenceLength, i)),
    steps: STEPS,
    onProgress: () => {
      fastest = Math.min(fastest, performance.now() - before);
      before = performance.now();
    },
  });
  await trainer.state();
  const peak = await peakBytes(trainer.pid!);
  await trainer.stop();
  const parts = Object.entries(memory).map(([name, bytes]) => `${name} ${mebibytes(bytes)}`);
  const seconds = secondsPerStep(work, speed);
  const rates = `${(speed.flops / 1e9).toFixed(0)} GFLOP/s and ${(speed.bytes / 1e9).toFixed(0)} GB/s`;
  const size = `${(work.flopsPerStep / 1e9).toFixed(1)} GFLOP and ${(work.trafficPerStep / 1e9).toFixed(1)} GB`;
  console.log(
    `${shape.microBatch} × ${shape.sequenceLength} tokens, rank ${rank}\n` +
      `  memory in MiB: estimate ${parts.join(', ')}; measured peak ${mebibytes(peak)} ` +
      `(${mebibytes(idle)} before training); error of the estimate ${percent(memory.total / peak)}\n` +
      `  time of a step (${size} at ${rates}): estimate ${seconds.toFixed(3)} s; ` +
      `measured ${(fastest / 1000).toFixed(3)} s; error of the estimate ${percent((1000 * seconds) / fastest)}`,
  );
}
await rm(cacheDir, { recursive: true, force: true });

async function peakBytes(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8');
  return 1024 * Number(/VmHWM:\s+(\d+)/.exec(status)![1]);
}

function mebibytes(bytes: number): string {
  return (bytes / 2 ** 20).toFixed(0);
}

function percent(ratio: number): string {
  return `${ratio >= 1 ? '+' : ''}${(100 * (ratio - 1)).toFixed(0)} %`;
}
