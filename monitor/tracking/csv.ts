import { open, readFile } from 'node:fs/promises';
import { commonError } from '../../common/common-errors.ts';
import { FIGURES, type Point, type Tracker } from './points.ts';

const HEADER = `round,time,${FIGURES.join(',')}\n`;

/**
 * Writes a table with one row per round. A table that an earlier call wrote is written again, with all rounds.
 * @throws SwarmError OUTPUT_EXISTS if the file holds something else
 */
export async function openCsv(path: string): Promise<Tracker> {
  const before = await readFile(path, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return '';
    throw error;
  });
  if (before !== '' && !before.startsWith(HEADER)) {
    const next = 'choose another path, or delete the file';
    throw commonError('OUTPUT_EXISTS', `${path} exists and is not a table of a job`, { path }, { next });
  }
  const file = await open(path, 'w');
  await file.appendFile(HEADER);
  return {
    after: 0,
    add: (points) => file.appendFile(points.map(rowOf).join('')),
    close: () => file.close(),
  };
}

function rowOf({ round, at, values }: Point): string {
  const cells = FIGURES.map((figure) => values[figure] ?? '');
  return `${[round, new Date(at).toISOString(), ...cells].join(',')}\n`;
}
