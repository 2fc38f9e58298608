import type { ApiClient, CreatedJob, CreateJobOptions, JobDataReport, JobSpecInput } from '../index.ts';
import { badRowSummary, badRowText, tallyLines } from './bad-rows.ts';
import type { Context } from './context.ts';
import { ProgressLine, percentDone, printNote } from './print.ts';

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
  place: Pick<CreateJobOptions, 'priority' | 'after'> = {},
): Promise<CreatedJob> {
  const { createJob } = await import('../index.ts');
  const progress = new ProgressLine(context);
  try {
    return await createJob(api, spec, {
      ...place,
      signal: context.signal,
      onProgress: ({ stage, done, total }) =>
        progress.update(`${STAGES[stage]}  ${percentDone(done, total)}`),
      onData: (data) => {
        progress.clear();
        for (const text of dataLines(data)) printNote(context, text);
      },
    });
  } finally {
    progress.clear();
  }
}

/** Returns lines about rows that cannot be used, with an example of each reason, and about cut or omitted samples. */
function dataLines({ read, tally }: JobDataReport): string[] {
  const leftOut = badRowSummary(read);
  return [
    ...(leftOut === null ? [] : [`left out ${leftOut}`]),
    ...read.reasons.map(({ first }) => `for example ${badRowText(first)}`),
    // Plain text is always split into rows, so the number of split samples says nothing.
    ...tallyLines({ ...tally, split: 0 }),
  ];
}
