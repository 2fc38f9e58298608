import type { Logger } from '../../common/logger.ts';
import type { JobEvent } from '../../protocol/api/job-events.ts';

/** Logs an event: at level info or warn if operators need to see it, otherwise at level debug. */
export function logEvents(log: Logger, event: JobEvent, job: string): void {
  switch (event.type) {
    case 'checkpoint': {
      const { round, updates, heldOutLoss, trainLoss, tokensPerSecond, seconds, bytesPerParameter } = event;
      const line = {
        job,
        round,
        updates,
        heldOutLoss: rounded(heldOutLoss, 4),
        trainLoss: rounded(trainLoss, 4),
        tokensPerSecond: Math.round(tokensPerSecond),
        seconds: rounded(seconds, 1),
        bytesPerParameter: rounded(bytesPerParameter, 3),
      };
      log.info(line, 'round-committed');
      return;
    }
    case 'rolled-back': {
      const { round, to, heldOutLoss, lossBefore, reason } = event;
      const losses = { heldOutLoss: rounded(heldOutLoss, 4), lossBefore: rounded(lossBefore, 4) };
      log.warn({ job, round, to, ...losses, reason }, 'rolled-back');
      return;
    }
    case 'null-round':
      log.warn({ job, round: event.round, reason: event.reason }, 'null-round');
      return;
    case 'struck':
    case 'suspended':
    case 'banned':
    case 'pardoned':
    case 'shared-fault':
    case 'caught-up':
    case 'clock-set':
    case 'blob-damaged':
    case 'blob-repaired':
    case 'duplicate-identity': {
      const { type, sequence: _, at: __, ...fields } = event;
      log.warn({ ...fields, job }, type);
      return;
    }
    case 'peer-joined':
    case 'peer-held':
    case 'peer-lost':
    case 'paused':
    case 'resumed':
    case 'finished':
    case 'job-created': {
      const { type, sequence: _, at: __, ...fields } = event;
      log.info({ ...fields, job }, type);
      return;
    }
    default:
      log.debug({ ...event, job }, event.type);
  }
}

function rounded(value: number | null, digits: number): number | null {
  return value === null ? null : Number(value.toFixed(digits));
}
