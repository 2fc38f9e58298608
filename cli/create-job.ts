import { SwarmError } from '../common/errors.ts';
import type { CreateJobLine } from '../coordinator/api/types.ts';
import type { ApiClient } from '../coordinator/client/api-client.ts';
import { badRowSummary, badRowText, tallyLines } from './bad-rows.ts';
import type { Context } from './context.ts';
import { cliError } from './error-codes.ts';
import { ProgressLine } from './print.ts';

const STAGES = {
  base: 'reading the base model',
  data: 'packing the data',
  adapter: 'creating the initial adapter',
  baseline: "measuring the base's held-out loss",
} as const;

export interface CreatedJob {
  job: string;
  name: string;
  invite: string;
}

/** Creates a job on the coordinator and shows progress on stderr. @throws SwarmError with the coordinator's code */
export async function submitJob(
  context: Pick<Context, 'stderr' | 'clock'>,
  api: ApiClient,
  spec: object,
): Promise<CreatedJob> {
  const progress = new ProgressLine(context);
  try {
    for await (const line of api.createJob(spec)) {
      if (line.event === 'created') return { job: line.job, name: line.name, invite: line.invite };
      if (line.event === 'error') throw SwarmError.fromJSON(line);
      if (line.event === 'data') {
        progress.clear();
        for (const text of dataLines(line)) context.stderr.write(`swarm: ${text}\n`);
        continue;
      }
      const percent = line.total > 0 ? Math.floor((line.done / line.total) * 100) : 0;
      progress.update(`${STAGES[line.stage]}  ${percent} %`);
    }
  } finally {
    progress.clear();
  }
  throw cliError(
    'JOB_FAILED',
    'the coordinator stopped before it had created the job',
    {},
    { next: 'read its log, logs/coordinator.log in its home' },
  );
}

/** Lines about the rows that cannot be used, with one example of each reason, and about shortened or dropped samples. */
function dataLines({ read, tally }: Extract<CreateJobLine, { event: 'data' }>): string[] {
  const leftOut = badRowSummary(read);
  return [
    ...(leftOut === null ? [] : [`left out ${leftOut}`]),
    ...read.reasons.map(({ first }) => `for example ${badRowText(first)}`),
    // Text is always split into rows, so that count says nothing.
    ...tallyLines({ ...tally, split: 0 }),
  ];
}
