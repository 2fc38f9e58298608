import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { SHIPPED, sourcesIn } from '../../utils/sources.ts';

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

it('the lock file names no registry, so that everybody can use their own', () => {
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
