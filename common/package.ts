/** The npm package that this code belongs to: its folder and its version. */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

/**
 * The root of the package. This file is common/package.ts in a checkout and dist/common/package.js in the published
 * package, so the root is one or two folders above.
 */
const ROOT = new URL(import.meta.url.endsWith('.ts') ? '../' : '../../', import.meta.url);

/** Returns the root folder of the package, which contains `models/`. */
export function packageRoot(): string {
  return fileURLToPath(ROOT);
}

export function packageVersion(): string {
  const { version } = JSON.parse(readFileSync(new URL('package.json', ROOT), 'utf8')) as { version: string };
  return version;
}
