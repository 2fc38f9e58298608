import { readdirSync, readFileSync } from 'node:fs';
import { join, relative, sep } from 'node:path';

const ROOT = join(import.meta.dirname, '../..');

/** The folders whose code ships in the package. */
export const SHIPPED = [
  'common',
  'protocol',
  'storage',
  'lora',
  'net',
  'monitor',
  'node',
  'coordinator',
  'cli',
] as const;

export interface SourceFile {
  /** Relative to the repository, with forward slashes. */
  readonly path: string;
  readonly text: string;
}

/** All files in these top folders with one of the extensions. @param extensions @default TypeScript */
export function sourcesIn(folders: readonly string[], extensions = ['.ts']): SourceFile[] {
  return folders.flatMap((folder) =>
    readdirSync(join(ROOT, folder), { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile() && extensions.some((extension) => entry.name.endsWith(extension)))
      .map((entry) => join(entry.parentPath, entry.name))
      .filter((file) => !file.includes('node_modules'))
      .map((file) => ({
        path: relative(ROOT, file).split(sep).join('/'),
        text: readFileSync(file, 'utf8'),
      })),
  );
}
