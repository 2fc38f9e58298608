import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { commonError } from '../../../common/common-errors.ts';
import { writeDurably } from '../../../common/files/durable.ts';
import type { Context } from '../../context.ts';
import { coordinatorApi, type HomeFlag } from '../../daemon/connect.ts';
import { printJson, printLines } from '../../print.ts';

/** Runs `lora-swarm job report`. */
export async function writeJobReport(
  context: Context,
  id: string,
  path: string,
  flags: HomeFlag & { json?: boolean; force?: boolean },
): Promise<void> {
  const [{ collectReport }, { jobPage }] = await Promise.all([import('./facts.ts'), import('./page.ts')]);
  const file = resolve(context.cwd, path);
  if (!flags.force && existsSync(file)) {
    throw commonError(
      'OUTPUT_EXISTS',
      `${file} exists`,
      { file },
      { next: 'choose another name, or add --force to replace the file' },
    );
  }
  const api = await coordinatorApi(context, flags);
  const report = await collectReport(api, id, { now: context.clock.now(), version: context.version });
  const page = Buffer.from(jobPage(report));
  await writeDurably(file, page);
  if (flags.json) printJson(context, { schemaVersion: 1, file, bytes: page.length });
  else printLines(context, [`report of job ${report.job.name} in ${file}`]);
}
