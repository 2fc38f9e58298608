import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join, relative, sep } from 'node:path';

const ROOT = join(import.meta.dirname, '../../..');

/** The folders, and the file, whose code ships in the package. */
export const SHIPPED = [
  'index.ts',
  'common',
  'protocol',
  'storage',
  'lora',
  'net',
  'monitor',
  'registry',
  'verify',
  'node',
  'coordinator',
  'serve',
  'cli',
] as const;

export interface SourceFile {
  /** Relative to the repository, with forward slashes. */
  readonly path: string;
  readonly text: string;
}

/** All files of these top folders and files with one of the extensions. @param extensions @default TypeScript */
export function sourcesIn(folders: readonly string[], extensions = ['.ts']): SourceFile[] {
  return folders.flatMap((folder) =>
    filesOf(join(ROOT, folder))
      .filter((file) => extensions.some((extension) => file.endsWith(extension)))
      .filter((file) => !file.includes('node_modules'))
      .map((file) => ({
        path: relative(ROOT, file).split(sep).join('/'),
        text: readFileSync(file, 'utf8'),
      })),
  );
}

function filesOf(path: string): string[] {
  if (statSync(path).isFile()) return [path];
  return readdirSync(path, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name));
}
