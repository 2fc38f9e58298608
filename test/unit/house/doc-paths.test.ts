import { existsSync, globSync, readFileSync } from 'node:fs';
import { join, posix } from 'node:path';
import { expect, it } from 'vitest';

const ROOT = join(import.meta.dirname, '../../..');
/** The folders that a path in docs/architecture.md may leave out. */
const BASES = ['', 'coordinator', 'net/blobs'];
const TOP =
  'common|protocol|storage|lora|net|monitor|registry|node|coordinator|serve|cli|scripts|test|examples|models|docs';

it('the docs name files that exist', () => {
  const pages = ['CONTRIBUTING.md', 'SECURITY.md', ...globSync('docs/**/*.md', { cwd: ROOT })];
  const missing = pages.flatMap((page) =>
    [...readFileSync(join(ROOT, page), 'utf8').matchAll(/`((?:[\w.-]+\/)+[\w.-]+\.(?:ts|js|py|json|md))`/g)]
      .map(([, path]) => path!)
      // On other pages than docs/architecture.md, a path that begins with no top folder of the repository is a path on
      // a user's machine or in another package.
      .filter((path) => page === 'docs/architecture.md' || new RegExp(`^(${TOP})/`).test(path))
      .filter((path) => !/NAME/.test(path) && !BASES.some((base) => existsSync(join(ROOT, base, path))))
      .map((path) => `${page}: ${path}`),
  );
  expect(missing).toEqual([]);
});

it('pages of the package link only to files of the package', () => {
  const { files } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as { files: string[] };
  const packed = ['README.md', 'LICENSE', 'package.json', ...files];
  const isPacked = (path: string): boolean =>
    existsSync(join(ROOT, path)) && packed.some((entry) => path === entry || path.startsWith(`${entry}/`));
  const pages = globSync('**/*.md', { cwd: ROOT, exclude: ['node_modules'] }).filter((page) =>
    isPacked(page.replaceAll('\\', '/')),
  );
  expect(pages).toContain('CHANGELOG.md');
  const wrong = pages.flatMap((page) =>
    [...readFileSync(join(ROOT, page), 'utf8').matchAll(/\]\(([^)\s#]+)(?:#[^)]*)?\)/g)]
      .map(([, target]) => target!)
      .filter((target) => !/^[a-z]+:/.test(target))
      .filter((target) => !isPacked(posix.join(posix.dirname(page.replaceAll('\\', '/')), target)))
      .map((target) => `${page}: ${target}`),
  );
  expect(wrong).toEqual([]);
});

it('docs/architecture.md names every top folder with code', () => {
  const text = readFileSync(join(ROOT, 'docs/architecture.md'), 'utf8');
  for (const folder of TOP.split('|')) if (folder !== 'docs') expect(text).toContain(`\`${folder}/\``);
});
