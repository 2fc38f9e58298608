import { readdir, readFile, rm, stat, truncate, writeFile } from 'node:fs/promises';
import { join, relative } from 'node:path';
import type { SeededRandom } from '../../test/utils/virtual/seeded-random.ts';

/** Ways in which a file is damaged. */
const DAMAGES = ['flip', 'truncate', 'delete'] as const;

/** Damages one file of a stopped daemon. Every kind of file is equally likely. @returns a description */
export async function damageFile(home: string, random: SeededRandom): Promise<string> {
  const byKind = new Map<string, string[]>();
  for (const entry of await readdir(home, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue;
    const path = join(entry.parentPath, entry.name);
    const kind = kindOf(relative(home, path));
    if (kind !== null) byKind.set(kind, [...(byKind.get(kind) ?? []), path]);
  }
  const kind = random.pick([...byKind.keys()].sort());
  const path = random.pick(byKind.get(kind)!.sort());
  const damage = random.pick(DAMAGES);
  const { size } = await stat(path);
  if (damage === 'delete') await rm(path);
  else if (damage === 'truncate') await truncate(path, Math.floor(size / 2));
  else if (size > 0) {
    const bytes = await readFile(path);
    const at = random.integer(0, size - 1);
    bytes[at] = bytes[at]! ^ (1 << random.integer(0, 7));
    await writeFile(path, bytes);
  }
  return `${damage} ${kind}`;
}

/** Names the kind of a file by its path in a home. Returns null for files that a daemon writes but does not read. */
function kindOf(path: string): string | null {
  const [top = '', ...rest] = path.split(/[\\/]/);
  if (top === 'logs' || /^(coordinator|node)\.json$/.test(top)) return null;
  if (rest.length === 0) return top;
  const name = rest.at(-1)!;
  return /^[0-9a-f]{20,}$/.test(name) ? top : `${top}/${name.replace(/[0-9a-f]{16,}|\d+/g, '*')}`;
}
