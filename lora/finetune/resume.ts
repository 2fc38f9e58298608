import type { SwarmError } from '../../common/errors.ts';
import type { TrainingConfig } from '../train/config.ts';
import { learningRateAt } from '../train/schedule.ts';
import type { RunState } from './checkpoints.ts';
import { finetuneError } from './errors.ts';
import { differences, type RunSettings } from './settings.ts';

export interface ResumeOptions {
  /** Folder of the run. */
  output: string;
  /** Of the run as it is told now. */
  settings: RunSettings;
  training: TrainingConfig;
}

/**
 * Where a run goes on, from the state of a checkpoint. It may have become longer or shorter; what is over because nothing
 * was gained any more, or because all steps were made, goes on where more are asked for.
 *
 * @param onWarning told when the rate jumps, since its line or cosine has another end than before
 * @throws SwarmError RESUME_CONFLICT it was begun with other settings, or is past the end already
 */
export function goOn(
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
      `the run in ${output} has made ${step} steps, and is to have ${totalSteps}`,
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
        `with ${totalSteps} steps instead of ${was} the learning rate after step ${step} is ${now} instead of ${old}`,
        { step, was, totalSteps, rates },
      ),
    );
  }
  if (totalSteps <= was) return before;
  return { ...before, finished: null, waited: before.finished === 'early-stopping' ? 0 : before.waited };
}

function refuseDifferences(before: RunState, now: RunSettings, output: string): void {
  const found = differences(before.settings, now);
  if (found.length === 0) return;
  const text = found.map(({ field, before, now }) =>
    field.startsWith('the ')
      ? `${field} is another`
      : `${field} was ${JSON.stringify(before)}, now ${JSON.stringify(now)}`,
  );
  throw finetuneError(
    'RESUME_CONFLICT',
    `${output} was begun with other settings: ${text.join('; ')}`,
    { output, differences: found },
    { next: 'leave those options out to go on as begun, or train into another folder' },
  );
}
