import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';

const ROOT = join(import.meta.dirname, '../../..');

it('README.md names files that exist', () => {
  const page = readFileSync(join(ROOT, 'README.md'), 'utf8');
  const links = [...page.matchAll(/\]\(([\w./-]+)\)/g)].map(([, path]) => path!);
  const rows = page.split('\n').filter((line) => /^\| `/.test(line));
  const code = (text: string): string[] => [...text.matchAll(/`([\w./-]+)`/g)].map(([, name]) => name!);
  expect(rows.length).toBeGreaterThan(10);
  const missing = links.filter((path) => !existsSync(join(ROOT, path)));
  for (const row of rows) {
    const [folders, , files] = row.split('|').slice(1) as [string, string, string];
    for (const file of code(files)) {
      const found = code(folders).some((folder) => existsSync(join(ROOT, folder, file)));
      if (!found) missing.push(`${folders.trim()}: ${file}`);
    }
  }
  expect(missing).toEqual([]);
});

it('README.md starts a second node on the same machine so that the two do not pause each other', () => {
  const page = readFileSync(join(ROOT, 'README.md'), 'utf8');
  const second = page.split('\n').filter((line) => /^npx lora-swarm node .*--home/.test(line));
  expect(second).toHaveLength(1);
  expect(second[0]).toContain('--no-polite');
});
