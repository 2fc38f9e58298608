import { countOf, formatBytes, formatCount, formatDuration, table } from '../../common/text.ts';
import type { RunEstimate, RunMemory } from '../../index.ts';
import type { TrainSpec } from '../../lora/finetune/settings/settings.ts';
import { checkpointingLine } from '../../lora/train/memory/checkpointing.ts';

/** Formats an estimate of a run. @param columns maximum length of a line of the table */
export function estimateLines(
  estimate: RunEstimate,
  { training, lora }: TrainSpec,
  columns?: number,
): string[] {
  const { memory, disk, time, model, checkpointing } = estimate;
  const about = estimate.counted ? '' : 'about ';
  const { flops, baseFlops, float16Flops } = time.speed;
  const withBase = float16Flops ?? baseFlops;
  const [perStep, gflop] = [time.secondsPerStep, time.flopsPerStep / 1e9];
  const gflops =
    `${formatCount(flops / 1e9)} GFLOP/s` +
    (withBase === undefined ? '' : ` (matrix products with the base: ${formatCount(withBase / 1e9)})`);
  return [
    `${model.family} of ${formatCount(model.parameters)} parameters; adapter of rank ${lora.rank} with ` +
      `${formatCount(estimate.adapterParameters)} parameters`,
    `${about}${countOf(estimate.tokens, 'token')} in ${countOf(estimate.rows, 'row')}; ${countOf(estimate.steps, 'step')} ` +
      `of ${training.batchSize} × ${training.sequenceLength} tokens, ${countOf(training.microBatch, 'row')} at a time`,
    ...table(
      [
        [
          'memory',
          `${formatBytes(memory.total)} of ${formatBytes(memory.available)} available`,
          memoryParts(memory) + (memory.onProcessor ? '' : "; the size of a GPU's own memory is unknown"),
        ],
        [
          'disk',
          `${formatBytes(disk.weights + disk.data)} in the cache, ${formatBytes(disk.output)} in the output`,
          `weights ${formatBytes(disk.weights)}, packed data ${formatBytes(disk.data)}`,
        ],
        [
          'time',
          `${formatDuration(time.seconds)}, ${perStep < 10 ? `${perStep.toPrecision(2)} s` : formatDuration(perStep)} a step`,
          `${gflop < 1000 ? gflop.toPrecision(3) : formatCount(gflop)} GFLOP a step at ${gflops}, which was measured just now; ` +
            'on an idle machine, the estimate is right within a factor of two',
        ],
      ],
      { columns },
    ),
    ...(checkpointing.reason === null ? [] : [checkpointingLine(checkpointing.reason)]),
  ];
}

function memoryParts({ runtime, trainers, command, weights, activations, adapter }: RunMemory): string {
  return (
    `weights ${formatBytes(weights)}, activations ${formatBytes(activations)}, adapter and optimiser ` +
    `${formatBytes(adapter)}, the ${trainers === 1 ? 'two' : trainers + 1} processes ${formatBytes(runtime + command)}`
  );
}
