import { open, readFile } from 'node:fs/promises';
import { commonError } from '../../common/common-errors.ts';
import { nullIfMissing } from '../../common/files/file-system.ts';
import { FIGURES, type Point, type Tracker } from './points.ts';

const HEADER = `job,round,time,${FIGURES.join(',')}\n`;
/** Number of characters of the digest in each row. These characters tell the tables of two jobs apart. */
const DIGEST_CHARACTERS = 16;

/**
 * Writes a table with one row per round. Overwrites the table of an earlier call for the same job.
 * @param digest of the job
 * @throws SwarmError OUTPUT_EXISTS if the file holds something else, such as the table of another job
 */
export async function openCsv(path: string, digest: string): Promise<Tracker> {
  const job = digest.slice(0, DIGEST_CHARACTERS);
  const before = (await readFile(path, 'utf8').catch(nullIfMissing)) ?? '';
  const isOwn = before === HEADER || before.startsWith(`${HEADER}${job},`);
  if (before !== '' && !isOwn) {
    const next = 'choose another path, or delete the file';
    throw commonError('OUTPUT_EXISTS', `${path} exists and is not a table of this job`, { path }, { next });
  }
  const file = await open(path, 'w');
  await file.appendFile(HEADER);
  return {
    after: 0,
    add: (points) => file.appendFile(points.map((point) => `${job},${rowOf(point)}`).join('')),
    close: () => file.close(),
  };
}

function rowOf({ round, at, values }: Point): string {
  const cells = FIGURES.map((figure) => values[figure] ?? '');
  return `${[round, new Date(at).toISOString(), ...cells].join(',')}\n`;
}
