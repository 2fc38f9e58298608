import { chmod, readdir, readFile, rm, stat, truncate, writeFile } from 'node:fs/promises';
import { join, relative, sep } from 'node:path';
import { nullIfMissing } from '../../common/files/file-system.ts';
import type { SeededRandom } from '../../test/utils/virtual/seeded-random.ts';
import { blobKinds } from './blob-kinds.ts';

/**
 * Ways in which a file is damaged. `older`: the file has earlier content of the same kind, as after the restore of a single
 * file. `unreadable`: the daemon may not open the file.
 */
export const DAMAGES = ['flip', 'truncate', 'delete', 'older', 'unreadable'] as const;
export type Damage = (typeof DAMAGES)[number];

/** Kinds of the files of an interrupted fetch. */
export const PARTIAL_BLOB = 'partial blob';
export const PARTIAL_MAP = 'map of a partial blob';

const DIGEST = /^[0-9a-f]{64}$/;

/** Damages one file of a stopped daemon. Every kind of file is equally likely. @returns a description */
export async function damageFile(home: string, random: SeededRandom): Promise<string> {
  const byKind = await filesByKind(home, kindOf);
  const kind = random.pick([...byKind.keys()].sort());
  const path = random.pick(byKind.get(kind)!.sort());
  const damage = random.pick(['flip', 'truncate', 'delete'] as const);
  await damagePath(path, damage, { random, older: null });
  return `${damage} ${kind}`;
}

/**
 * Lists the files of a stopped daemon that the daemon reads, by their kind, the newest file of each kind first. Blobs have
 * the kind of their use.
 */
export async function filesOf(home: string): Promise<Map<string, string[]>> {
  const kinds = blobKinds(home);
  const byKind = await filesByKind(home, (path) => {
    const name = path.split(sep).at(-1)!;
    const kind = kindOf(path);
    return kind === 'blobs' ? `blob: ${kinds.get(name) ?? 'without a use'}` : kind;
  });
  for (const paths of byKind.values()) {
    const times = new Map(await Promise.all(paths.map(async (path) => [path, await timeOf(path)] as const)));
    paths.sort((a, b) => times.get(b)! - times.get(a)! || (a < b ? -1 : 1));
  }
  return byKind;
}

/**
 * Damages a file.
 * @param older folder with an earlier copy of the home, and the other files of the same kind, newest first
 * @returns whether the file was damaged. It was not if the damage is `older` and no other content of this kind exists, or
 *   if the damage is `flip` and the file is empty
 */
export async function damagePath(
  path: string,
  damage: Damage,
  { random, older }: { random: SeededRandom; older: OlderFiles | null },
): Promise<boolean> {
  const { size } = await stat(path);
  if (damage === 'delete') await rm(path);
  else if (damage === 'truncate') await truncate(path, Math.floor(size / 2));
  else if (damage === 'unreadable') await chmod(path, 0);
  else if (damage === 'older') {
    const bytes = older && (await olderBytes(path, older));
    if (bytes === null) return false;
    await writeFile(path, bytes);
  } else if (size > 0) {
    const bytes = await readFile(path);
    const at = random.integer(0, size - 1);
    bytes[at] = bytes[at]! ^ (1 << random.integer(0, 7));
    await writeFile(path, bytes);
  } else return false;
  return true;
}

export interface OlderFiles {
  readonly home: string;
  /** Earlier copy of the home. */
  readonly copy: string;
  /** Other files of the same kind. */
  readonly others: readonly string[];
}

/**
 * Returns the earlier bytes of a file, or else the bytes of another file of the same kind; null if none of them differ
 * from the bytes of the file now. A file that is named after its digest has no earlier bytes.
 */
async function olderBytes(path: string, { home, copy, others }: OlderFiles): Promise<Buffer | null> {
  const own = await readFile(path);
  const name = path.split(sep).at(-1)!;
  const sources = DIGEST.test(name) ? others : [join(copy, relative(home, path)), ...others];
  for (const source of sources) {
    // If the earlier copy lacks the file, the next source is tried.
    const bytes = await readFile(source).catch(nullIfMissing);
    if (bytes !== null && !bytes.equals(own)) return bytes;
  }
  return null;
}

async function filesByKind(
  home: string,
  kindOfPath: (path: string) => string | null,
): Promise<Map<string, string[]>> {
  const byKind = new Map<string, string[]>();
  for (const entry of await readdir(home, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue;
    const path = join(entry.parentPath, entry.name);
    const kind = kindOfPath(relative(home, path));
    if (kind !== null) byKind.set(kind, [...(byKind.get(kind) ?? []), path]);
  }
  return byKind;
}

async function timeOf(path: string): Promise<number> {
  return (await stat(path)).mtimeMs;
}

/** Names the kind of a file by its path in a home. Returns null for files that a daemon writes but does not read. */
function kindOf(path: string): string | null {
  const [top = '', ...rest] = path.split(/[\\/]/);
  if (top === 'logs' || /^(coordinator|node)\.json$/.test(top)) return null;
  if (rest.length === 0) return top;
  const name = rest.at(-1)!;
  if (rest[0] === 'partial') return name.endsWith('.map') ? PARTIAL_MAP : PARTIAL_BLOB;
  return /^[0-9a-f]{20,}$/.test(name) ? top : `${top}/${name.replace(/[0-9a-f]{16,}|\d+/g, '*')}`;
}
