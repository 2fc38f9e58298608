import { table } from '../../common/text.ts';
import type { Comparison, TaskResults } from '../../index.ts';
import { changeText, probabilityText } from '../../lora/evaluate/compare/compare.ts';
import { figureList } from '../../lora/evaluate/report/figures.ts';

/** A table of the figures of a model, one row for each metric, with the digits of lm-evaluation-harness's table. */
export function taskTable(figures: TaskResults): string[] {
  return table([
    ['task', 'shots', 'filter', 'metric', 'value', 'standard error'],
    ...figureList(figures).map(({ alias, shots, filter, metric, higherIsBetter, value, standardError }) => [
      alias,
      String(shots ?? ''),
      filter,
      `${metric} ${higherIsBetter ? '↑' : '↓'}`,
      value.toFixed(4),
      `± ${standardError === null ? 'N/A' : standardError.toFixed(4)}`,
    ]),
  ]);
}

/** A table of the differences between two models, and a sentence on them. */
export function comparisonLines({ metrics, summary }: Comparison, against: string): string[] {
  return [
    ...table([
      ['task', 'filter', 'metric', 'value', `against ${against}`, 'change (95 %)', 'p', ''],
      ...metrics.map((one) => [
        one.task,
        one.filter,
        `${one.metric} ${one.higherIsBetter ? '↑' : '↓'}`,
        one.value.toFixed(4),
        one.against.toFixed(4),
        changeText(one),
        probabilityText(one.p),
        one.verdict,
      ]),
    ]),
    '',
    summary,
  ];
}
