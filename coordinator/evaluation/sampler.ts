import type { SampleRequest, Samples } from '../../lora/evaluate/process/messages.ts';
import { bestCheckpoint } from '../best-checkpoint.ts';
import { coordinatorError } from '../errors.ts';
import type { JobRun } from '../job-run.ts';
import { byPriority } from '../queue.ts';
import { isOver } from '../round/job-phase.ts';
import type { JobSamples, SampleText } from '../store/store.ts';
import type { WorkSource } from './background-work.ts';
import { type CheckpointWorkDeps, workOn } from './checkpoint-work.ts';

/** Maximum time for the samples of one checkpoint, in seconds, so that a slow machine does not sample all day. */
const MAX_SECONDS = 600;

export interface SamplerOptions {
  /** Folder of converted weights. */
  readonly cacheDir: string;
  /** The device that generates, and its settings. */
  readonly compute: SampleRequest['compute'];
}

export interface SamplerDeps extends CheckpointWorkDeps {
  /** Generates samples. The process of the coordinator must not be blocked meanwhile. */
  readonly sample: (
    request: SampleRequest,
    options: { signal: AbortSignal; onLog: (line: string) => void },
  ) => Promise<Samples>;
}

/**
 * Generates samples with the newest checkpoints of jobs. If rounds are faster than sampling, the checkpoints in between
 * are left out, because people read the newest samples. When a job has ended, the last and the best checkpoint are
 * sampled.
 */
export class Sampler implements WorkSource {
  readonly #options: SamplerOptions;
  readonly #deps: SamplerDeps;

  constructor(options: SamplerOptions, deps: SamplerDeps) {
    this.#options = options;
    this.#deps = deps;
  }

  next(): ReturnType<WorkSource['next']> {
    const { coordinator, store } = this.#deps;
    for (const run of byPriority(coordinator.jobs())) {
      const samples = store.samples.of(run.context.job);
      const round = samples && this.#due(run, samples);
      if (round !== null) return (signal) => this.#sample(run, samples!, round, signal);
    }
    return null;
  }

  /** Returns the round of the checkpoint to sample next; null if no checkpoint is due. */
  #due({ context: { job }, driver }: JobRun, { every }: JobSamples): number | null {
    const { rounds, samples } = this.#deps.store;
    // In most jobs, the model with the initial adapter gives the same texts as the base, so this adapter is left out.
    const held = rounds.held(job).filter(({ ordinal }) => ordinal > 0);
    const due = [held.findLast(({ ordinal }) => ordinal % every === 0)?.round];
    if (isOver(driver.state)) due.unshift(held.at(-1)?.round, bestCheckpoint(job, this.#deps.store)?.round);
    const kept = new Set(held.map(({ round }) => round));
    return due.find((round) => kept.has(round!) && samples.result(job, round!) === null) ?? null;
  }

  #sample(run: JobRun, samples: JobSamples, round: number, signal: AbortSignal): Promise<void> {
    const { store, clock } = this.#deps;
    const { job } = run.context;
    return workOn<SampleText[]>(
      run,
      {
        round,
        onFailure: 'not-sampled',
        signal,
        compute: () => this.#generate(run, samples, round, signal),
        record: ({ result: texts, reason, seconds }, outbox) => {
          const best = bestCheckpoint(job, store)?.round ?? null;
          store.samples.add(job, { round, texts, reason, seconds, at: clock.now() }, best);
          outbox.event(
            texts === null ? { type: 'samples-failed', round, reason } : { type: 'sampled', round, seconds },
          );
        },
      },
      this.#deps,
    );
  }

  async #generate(
    { context: { job, stored, manifest } }: JobRun,
    { prompts, maxTokens }: JobSamples,
    round: number,
    signal: AbortSignal,
  ): Promise<SampleText[]> {
    const { store, baseFolder, folders, clock, log, sample } = this.#deps;
    const known = store.samples.newest(job)?.texts;
    const deadline = new AbortController();
    const cancel = clock.after(MAX_SECONDS * 1000, () =>
      deadline.abort(
        coordinatorError('SAMPLES_SLOW', `generating took longer than ${MAX_SECONDS} s`, {
          seconds: MAX_SECONDS,
        }),
      ),
    );
    try {
      const { before, after } = await sample(
        {
          ...this.#options,
          base: await baseFolder(manifest.base),
          adapter: folders.path(stored.name, round),
          prompts: prompts.map(({ tokens }) => tokens),
          maxTokens,
          withBase: known === undefined,
        },
        {
          signal: AbortSignal.any([signal, deadline.signal]),
          onLog: (line) => log.debug({ line }, 'samples-output'),
        },
      );
      return prompts.map(({ text, isHeldOut }, i) => ({
        prompt: text,
        isHeldOut,
        before: known?.[i]?.before ?? before![i]!,
        after: after[i]!,
      }));
    } finally {
      cancel();
    }
  }
}
