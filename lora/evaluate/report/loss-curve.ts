/** Reads the losses of a training run from the output of `lora-swarm train --json`. */
import { readFile } from 'node:fs/promises';
import { fromSystem } from '../../../common/errors.ts';
import { evaluateError } from '../errors.ts';

/** The loss at one step of a training run. */
export interface LossPoint {
  readonly step: number;
  /** Loss in nats per token. */
  readonly loss: number;
}

/** The losses of a training run, in the order of its steps. */
export interface LossCurve {
  readonly training: readonly LossPoint[];
  readonly heldOut: readonly LossPoint[];
}

/** Maximum size of a log, in bytes. */
const MAX_BYTES = 256 * 2 ** 20;

/** @throws EVALUATE_LOG if the file cannot be read or has no losses */
export async function readLossCurve(file: string): Promise<LossCurve> {
  const bytes = await readFile(file).catch((cause: NodeJS.ErrnoException) => {
    throw evaluateError(
      'EVALUATE_LOG',
      `${file} cannot be read: ${cause.message}`,
      { file },
      { cause, ...fromSystem(cause) },
    );
  });
  const curve = bytes.length > MAX_BYTES ? null : parseLossCurve(bytes.toString('utf8'));
  if (curve !== null && curve.training.length + curve.heldOut.length > 0) return curve;
  throw evaluateError('EVALUATE_LOG', `${file} has no losses`, { file });
}

/** Collects the losses of the lines with the events `plan`, `step` and `evaluated`. Other lines are skipped. */
export function parseLossCurve(text: string): LossCurve {
  const training: LossPoint[] = [];
  const heldOut: LossPoint[] = [];
  for (const line of text.split('\n')) {
    const { event, step, loss, heldOutLoss } = parsed(line);
    const at = event === 'plan' ? 0 : step;
    if (typeof at !== 'number') continue;
    if (event === 'step' && typeof loss === 'number') training.push({ step: at, loss });
    if ((event === 'evaluated' || event === 'plan') && typeof heldOutLoss === 'number') {
      heldOut.push({ step: at, loss: heldOutLoss });
    }
  }
  return { training, heldOut };
}

function parsed(line: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(line);
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {};
  } catch {
    return {};
  }
}
