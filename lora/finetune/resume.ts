import type { SwarmError } from '../../common/errors.ts';
import { earlierChoiceAdvice } from '../data/held-out-choice.ts';
import type { TrainingConfig } from '../train/config.ts';
import { learningRateAt } from '../train/optimizer/schedule.ts';
import type { RunState } from './checkpoints.ts';
import { finetuneError } from './errors.ts';
import { differences, type RunSettings } from './settings/run-settings.ts';

export interface ResumeOptions {
  /** Folder of the run. */
  output: string;
  /** Settings with which the run is resumed now. */
  settings: RunSettings;
  training: TrainingConfig;
}

/**
 * Returns the state that a run continues from. The run may be longer or shorter than before. A finished run continues
 * if it is longer now.
 *
 * @param onWarning called with RATE_JUMPS if the schedule's new end changes the learning rate of the next step
 * @throws SwarmError RESUME_CONFLICT if settings differ, or the run has already made more steps than are asked for now
 */
export function resumeFrom(
  before: RunState,
  { output, settings, training }: ResumeOptions,
  onWarning: (warning: SwarmError) => void,
): RunState {
  refuseDifferences(before, settings, output);
  const { step } = before;
  const was = before.settings.totalSteps;
  const { totalSteps } = settings;
  if (totalSteps < step) {
    throw finetuneError(
      'RESUME_CONFLICT',
      `the run in ${output} has made ${step} steps, more than the ${totalSteps} steps that you asked for`,
      { output, step, totalSteps },
      { next: 'ask for more steps or epochs, or train into another folder' },
    );
  }
  const rates = [was, totalSteps].map((total) => learningRateAt({ ...training, totalSteps: total }, step));
  const [old, now] = rates.map((rate) => rate.toExponential(1));
  if (totalSteps > step && old !== now) {
    onWarning(
      finetuneError(
        'RATE_JUMPS',
        `the learning rate after step ${step} is ${now}, not ${old}, because the run now has ${totalSteps} steps instead of ${was}`,
        { step, was, totalSteps, rates },
      ),
    );
  }
  if (totalSteps <= was) return before;
  return { ...before, finished: null, waited: before.finished === 'early-stopping' ? 0 : before.waited };
}

/**
 * Names for the settings that a checkpoint stores only as a digest. Errors print the name without the digest, because a
 * digest tells people nothing.
 */
const DIGESTED: Readonly<Record<string, string>> = {
  base: 'the base model',
  'data.train': 'the data',
  'data.heldOut': 'the held-out text',
  'start.digest': 'the adapter that the run started from',
  start: 'the adapter that the run started from',
};

/** @throws SwarmError RESUME_CONFLICT if a setting differs. The values of the error list the differences. */
export function refuseDifferences(before: RunState, now: RunSettings, output: string): void {
  const found = differences(before.settings, now);
  if (found.length === 0) return;
  const text = found.map(({ field, before, now }) =>
    field in DIGESTED
      ? `${DIGESTED[field]} has changed`
      : `${field} was ${JSON.stringify(before)}, now ${JSON.stringify(now)}`,
  );
  const { seed, data } = now.spec;
  const isOfData = found.some(({ field }) => field === 'data.train' || field === 'data.heldOut');
  const advice = isOfData ? earlierChoiceAdvice({ seed, heldOut: data.heldOut }) : null;
  const next = 'leave out these options to resume with the original settings, or train into another folder';
  throw finetuneError(
    'RESUME_CONFLICT',
    `the run in ${output} was started with different settings: ${text.join('; ')}`,
    { output, differences: found },
    { next: advice === null ? next : `${next}; ${advice}` },
  );
}
