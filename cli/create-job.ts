import type { ApiClient, CreatedJob, JobDataReport, JobSpecInput } from '../index.ts';
import { badRowSummary, badRowText, tallyLines } from './bad-rows.ts';
import type { Context } from './context.ts';
import { ProgressLine } from './print.ts';

const STAGES = {
  base: 'reading the base model',
  data: 'packing the data',
  adapter: 'creating the initial adapter',
  baseline: "measuring the base's held-out loss",
} as const;

/** Creates a job on the coordinator and shows progress on stderr. @throws SwarmError with the coordinator's code */
export async function submitJob(
  context: Pick<Context, 'stderr' | 'clock' | 'signal'>,
  api: ApiClient,
  spec: JobSpecInput,
): Promise<CreatedJob> {
  const { createJob } = await import('../index.ts');
  const progress = new ProgressLine(context);
  try {
    return await createJob(api, spec, {
      signal: context.signal,
      onProgress: ({ stage, done, total }) =>
        progress.update(`${STAGES[stage]}  ${total > 0 ? Math.floor((done / total) * 100) : 0} %`),
      onData: (data) => {
        progress.clear();
        for (const text of dataLines(data)) context.stderr.write(`swarm: ${text}\n`);
      },
    });
  } finally {
    progress.clear();
  }
}

/** Lines about the rows that cannot be used, with one example of each reason, and about shortened or dropped samples. */
function dataLines({ read, tally }: JobDataReport): string[] {
  const leftOut = badRowSummary(read);
  return [
    ...(leftOut === null ? [] : [`left out ${leftOut}`]),
    ...read.reasons.map(({ first }) => `for example ${badRowText(first)}`),
    // Text is always split into rows, so that count says nothing.
    ...tallyLines({ ...tally, split: 0 }),
  ];
}
