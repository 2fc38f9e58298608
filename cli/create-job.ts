import { SwarmError } from '../common/errors.ts';
import type { CreateJobLine } from '../coordinator/api/types.ts';
import type { ApiClient } from '../coordinator/client/api-client.ts';
import { badRowSummary, badRowText, tallyLines } from './bad-rows.ts';
import type { Context } from './context.ts';
import { cliError } from './error-codes.ts';
import { ProgressLine } from './print.ts';

const STAGES = {
  base: 'taking in the base model',
  data: 'packing the data',
  adapter: 'making the first adapter',
  baseline: "measuring the base's held-out loss",
} as const;

export interface CreatedJob {
  job: string;
  name: string;
  invite: string;
}

/** Creates a job on the coordinator, with progress on stderr. @throws SwarmError with the coordinator's code */
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
  throw cliError('JOB_FAILED', 'the coordinator stopped before the job was created; look into its log');
}

/** Rows that were left out, with the first of each kind, and samples that do not stand as they were. */
function dataLines({ read, tally }: Extract<CreateJobLine, { event: 'data' }>): string[] {
  const left = badRowSummary(read);
  return [
    ...(left === null ? [] : [`left out ${left}`]),
    ...read.reasons.map(({ first }) => `for example ${badRowText(first)}`),
    // That text is cut into rows is no news.
    ...tallyLines({ ...tally, split: 0 }),
  ];
}
