/**
 * Builds the published package into dist: `npm run build`. The web page in monitor/web is compiled in a second run of tsc,
 * because its types are those of browsers.
 */
import { cpSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { runCommand } from './run-command.ts';

const ROOT = join(import.meta.dirname, '..');

rmSync(join(ROOT, 'dist'), { recursive: true, force: true });
for (const config of ['tsconfig.build.json', 'monitor/web/tsconfig.build.json']) {
  await runCommand('tsc', ['-p', config], ROOT, process.env);
}
cpSync(join(ROOT, 'monitor/web/styles'), join(ROOT, 'dist/monitor/web/styles'), { recursive: true });
