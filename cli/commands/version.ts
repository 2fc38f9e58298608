import type { Command } from 'commander';
import type { Context } from '../context.ts';
import { jsonOption } from '../options/common.ts';
import { printJson, printLines } from '../print.ts';

export function registerVersion(program: Command, context: Context): void {
  program
    .command('version')
    .description('print the version, for bug reports')
    .addOption(jsonOption())
    .action(({ json }: { json?: boolean }) => {
      const { versions, platform, arch } = process;
      if (json) {
        printJson(context, {
          schemaVersion: 1,
          version: context.version,
          node: versions.node,
          platform,
          arch,
        });
      } else {
        printLines(context, [`lora-swarm ${context.version}`, `node ${versions.node}, ${platform} ${arch}`]);
      }
    });
}
