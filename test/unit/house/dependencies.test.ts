import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { SHIPPED, sourcesIn } from '../../utils/source/sources.ts';

const ROOT = join(import.meta.dirname, '../../..');
/** Packages used as commands, or by the compiler alone. */
const TOOLS = ['@biomejs/biome', '@types/node', 'node', 'typescript'];

function textOf(folders: readonly string[]): string {
  return sourcesIn(folders)
    .map(({ text }) => text)
    .join('\n');
}

/** Returns the packages that no source names: as 'name', as 'name/path', or as a folder in node_modules. */
function unused(packages: readonly string[], text: string): string[] {
  return packages.filter((name) =>
    [`'${name}'`, `'${name}/`, `node_modules/${name}`].every((mention) => !text.includes(mention)),
  );
}

it('every dependency is used: by the package, or by tests and scripts', () => {
  const { dependencies, devDependencies } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as {
    dependencies: Record<string, string>;
    devDependencies: Record<string, string>;
  };
  expect(unused(Object.keys(dependencies), textOf(SHIPPED))).toEqual([]);
  const others = Object.keys(devDependencies).filter((name) => !TOOLS.includes(name));
  expect(unused(others, textOf([...SHIPPED, 'scripts', 'test']))).toEqual([]);
});

/** Returns the places in the comments of a source that name another version of a package than the installed one. */
function outdatedMentions(text: string, versions: Readonly<Record<string, string>>): string[] {
  const joined = text.replace(/\n\s*(\*|\/\/) ?/g, ' ');
  return [...joined.matchAll(/`?((?:@[\w-]+\/)?[\w-]+)`? \(?(\d+\.\d+\.\d+)\b/g)]
    .filter(([, name, version]) => (versions[name!] ?? version) !== version)
    .map(([mention]) => mention);
}

it('comments name the versions of packages that are installed, so an update shows what to check again', () => {
  const { dependencies, devDependencies } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'));
  const versions = { ...dependencies, ...devDependencies };
  expect(outdatedMentions('/**\n * Written for `a/b` and `@c/d`\n * 1.2.3. */', { '@c/d': '1.2.4' })).toEqual(
    ['`@c/d` 1.2.3'],
  );
  expect(sourcesIn(SHIPPED).flatMap(({ text }) => outdatedMentions(text, versions))).toEqual([]);
});

it('code that uses members of libp2p without a published type lies in net/libp2p, and names the version', () => {
  const files = sourcesIn(['net'])
    .map(({ path, text }) => ({ path, text: text.replace(/\n\s*\*?/g, '') }))
    .filter(({ text }) => /@libp2p\//.test(text) && /published type/.test(text));
  expect(files.length).toBeGreaterThan(5);
  expect(files.filter(({ path }) => !path.startsWith('net/libp2p/')).map(({ path }) => path)).toEqual([]);
  const unnamed = files.filter(({ text }) => !/libp2p(\/\w+)?`? \d+\.\d+\.\d+/.test(text));
  expect(unnamed.map(({ path }) => path)).toEqual([]);
});

it('the lock file names no registry, so that all users can use their own registry', () => {
  expect(readFileSync(join(ROOT, 'package-lock.json'), 'utf8')).not.toContain('"resolved"');
});

it("onnxruntime's install script, which downloads CUDA libraries from outside npm, stays off", () => {
  const read = (file: string) => JSON.parse(readFileSync(join(ROOT, file), 'utf8'));
  // Newer versions of npm read package.json. Older versions read the lock file, in which `hasInstallScript` was deleted
  // by hand.
  expect(read('package.json').allowScripts['onnxruntime-node']).toBe(false);
  expect(read('package-lock.json').packages['node_modules/onnxruntime-node']).not.toHaveProperty(
    'hasInstallScript',
    true,
  );
});
