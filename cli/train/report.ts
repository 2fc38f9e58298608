import {
  countOf,
  formatChange,
  formatCount,
  formatDuration,
  formatLoss,
  percentDone,
  shellWord,
} from '../../common/text.ts';
import type {
  AdapterVersion,
  Choice,
  ChosenEngine,
  EngineName,
  Fallback,
  FinetuneListener,
  FinetuneResult,
  PackedPart,
  PresetName,
  RunEvaluation,
  RunPlan,
  RunStep,
  StoppingRule,
  SwarmError,
} from '../../index.ts';
import { mostAreCut } from '../../lora/data/packing/tally.ts';
import { fallbackValues } from '../../lora/train/devices/fallback.ts';
import { shareLine } from '../../lora/train/devices/shared-batch.ts';
import { checkpointingLine } from '../../lora/train/memory/checkpointing.ts';
import { SWARM, withCommandName } from '../command-name.ts';
import type { Context } from '../context.ts';
import { badRowSummary, badRowText, firstRows, tallyLines } from '../data/bad-rows.ts';
import { measuringLine } from '../options/engine.ts';
import { ProgressLine, printJson, printLines, printNote, shownPath, terminalColumns } from '../print.ts';
import { presetLines } from '../views/preset.ts';
import type { RunCurve } from './run-curve.ts';

export interface TrainReportOptions {
  json: boolean;
  /** Folder of the adapter; null if a dry run names no folder. */
  output: string | null;
  /** Gets the figures of each step too. @default the run writes no curves */
  curve?: RunCurve | null;
}

/** Prints the progress of a run, for people or as JSON. docs/training.md describes the events. */
export class TrainReport implements FinetuneListener {
  readonly #options: TrainReportOptions;
  readonly #context: Pick<Context, 'stdout' | 'stderr' | 'clock' | 'cwd'>;
  readonly #progress: ProgressLine;

  constructor(options: TrainReportOptions, context: Pick<Context, 'stdout' | 'stderr' | 'clock' | 'cwd'>) {
    this.#options = options;
    this.#context = context;
    this.#progress = new ProgressLine(context);
  }

  onPreset(name: PresetName, choices: readonly Choice[]): void {
    this.#tell('preset', { name, choices }, () => presetLines(name, choices, terminalColumns(this.#context)));
  }

  onProbe(engine: EngineName): void {
    this.#progress.update(measuringLine(engine));
  }

  onEngine({ engine, reason }: ChosenEngine): void {
    this.#tell('engine', { engine, reason }, () => [`engine ${engine}: ${withCommandName(reason)}`]);
  }

  onBatchShared(microBatch: number, reason: string): void {
    this.#tell('batch-shared', { microBatch, reason }, () => [shareLine(reason)]);
  }

  onCheckpointing(reason: string): void {
    this.#tell('checkpointing', { reason }, () => [checkpointingLine(reason)]);
  }

  onPacking(done: number, total: number): void {
    if (!this.#options.json) this.#progress.update(`packing the data  ${percentDone(done, total)}`);
  }

  /** Prints the first bad records. `onData` prints the number of all bad records. */
  readonly onBadRow = firstRows((row) => {
    if (this.#options.json) this.#tell('bad-row', row, () => []);
    else this.#note(badRowText(row));
  });

  onData(data: PackedPart): void {
    const { part, read, tally } = data;
    const skipped = read === null ? null : badRowSummary(read);
    const cut = mostAreCut(tally);
    this.#tell('data', data, () =>
      [
        ...(skipped === null ? [] : [`left out ${skipped}`]),
        ...tallyLines(tally),
        ...(cut === null ? [] : [`${cut.message}; ${cut.next}`]),
      ].map((line) => `${part} data: ${line}`),
    );
  }

  onPlan(plan: RunPlan): void {
    this.#options.curve?.onPlan(plan);
    const { tokens, rows, steps, parameters, heldOutLoss } = plan;
    this.#tell('plan', plan, () => [
      `${countOf(tokens, 'token')} in ${countOf(rows, 'row')}, ${countOf(steps, 'step')}, ` +
        `${formatCount(parameters)} adapter parameters`,
      ...(heldOutLoss === null ? [] : [`held-out loss ${formatLoss(heldOutLoss)}`]),
    ]);
  }

  onResumed(step: number): void {
    this.#options.curve?.onResumed(step);
    this.#tell('resumed', { step }, () => [`continuing from step ${step}`]);
  }

  onWarning({ code, message, values, next }: SwarmError): void {
    if (this.#options.json) this.#tell('warning', { code, message, values, next }, () => []);
    else this.#note(next === null ? message : `${message}; ${next}`);
  }

  onStep(step: RunStep): void {
    this.#options.curve?.onStep(step);
    if (this.#options.json) printJson(this.#context, { schemaVersion: 1, event: 'step', ...step });
    else this.#progress.update(stepLine(step));
  }

  onMeasuring(done: number, total: number): void {
    if (!this.#options.json) {
      this.#progress.update(`measuring the held-out loss  ${percentDone(done, total)}`);
    }
  }

  onEvaluated(evaluation: RunEvaluation): void {
    this.#options.curve?.onEvaluated(evaluation);
    const { step, heldOutLoss, best } = evaluation;
    this.#tell('evaluated', evaluation, () => [
      `step ${step}  held-out loss ${formatLoss(heldOutLoss)}${best ? '  best so far' : ''}`,
    ]);
  }

  onCheckpoint(checkpoint: { step: number; path: string }): void {
    // The text for people has no line for a checkpoint, because the output folder shows the checkpoints.
    if (this.#options.json) this.#tell('checkpoint', checkpoint, () => []);
  }

  onNotice(text: string): void {
    if (this.#options.json) this.#tell('notice', { text }, () => []);
    else this.#note(text);
  }

  onFallback(fallback: Fallback): void {
    if (this.#options.json) this.#tell('fallback', fallbackValues(fallback), () => []);
    else this.#note(fallback.reason);
  }

  onPartial({ step, resumable }: { step: number; resumable: boolean }): void {
    const { json, output } = this.#options;
    if (json) this.#tell('partial', { step, adapter: output, resumable }, () => []);
    else {
      this.#note(`the adapter after step ${step} is in ${output}`);
      const again = `lora-swarm train --resume --output ${shellWord(output ?? '')}`;
      if (resumable) this.#note(`continue with: ${again}`);
    }
  }

  /** @param version the version in the registry; null if there is none */
  onTrained({ base, ...result }: FinetuneResult, version: AdapterVersion | null): void {
    this.#options.curve?.onTrained(result);
    const tokensPerSecond = result.tokens / result.seconds;
    const adapter = this.#options.output;
    const all = { ...result, tokensPerSecond, adapter, version: version?.label ?? null };
    this.#tell('trained', all, () => {
      const shown = adapter === null ? null : shownPath(this.#context, adapter);
      return resultLines({ ...all, adapter: shown }, shownPath(this.#context, base));
    });
  }

  end(): void {
    this.#progress.clear();
  }

  #tell(event: string, values: object, lines: () => string[]): void {
    this.#progress.clear();
    if (this.#options.json) printJson(this.#context, { schemaVersion: 1, event, ...values });
    else printLines(this.#context, lines());
  }

  #note(text: string): void {
    this.#progress.clear();
    printNote(this.#context, withCommandName(text));
  }
}

function stepLine(at: RunStep): string {
  const { step, steps, loss, learningRate, epoch, tokensPerSecond, secondsLeft } = at;
  // A narrow terminal cuts off the end of the line, so the most important figures come first.
  return (
    `step ${step}/${steps}  ${formatDuration(secondsLeft)} left  loss ${formatLoss(loss)}  ` +
    `${formatCount(tokensPerSecond)} tokens/s  epoch ${epoch.toFixed(2)}  rate ${learningRate.toExponential(1)}`
  );
}

function resultLines(
  result: Omit<FinetuneResult, 'base'> & {
    tokensPerSecond: number;
    adapter: string | null;
    version: string | null;
  },
  base: string,
): string[] {
  const { lossBefore, lossAfter, step, adapterStep, finished, stopping, adapter } = result;
  const change = lossBefore === null || lossAfter === null ? null : lossAfter - lossBefore;
  const of = adapterStep === step ? '' : ` of the best adapter (step ${adapterStep})`;
  return [
    ...(finished === 'early-stopping' ? [stoppedText(stopping)] : []),
    `${countOf(step, 'step')}, ${formatCount(result.tokens)} tokens in ${formatDuration(result.seconds)} ` +
      `(${formatCount(result.tokensPerSecond)} tokens/s), last training loss ${formatLoss(result.loss)}`,
    ...(change === null ? [] : [`held-out loss ${formatLoss(lossAfter)} (${formatChange(change)})${of}`]),
    `adapter ${adapter}`,
    ...(result.version === null ? [] : [`version ${result.version} in the registry`]),
    `next: ${SWARM} generate --model ${shellWord(base)} --adapter ${shellWord(adapter ?? '')} --prompt "…"`,
  ];
}

function stoppedText({ patience, minDelta }: StoppingRule): string {
  const measurements = patience === 1 ? 'measurement' : `${patience} measurements`;
  const [by, flag] = minDelta === 0 ? ['', ''] : [` by more than ${minDelta}`, `, --min-delta ${minDelta}`];
  return `stopped early: the last ${measurements} did not lower the best held-out loss${by} (--patience ${patience}${flag})`;
}
