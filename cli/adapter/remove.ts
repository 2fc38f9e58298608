import type { Command } from 'commander';
import { formatBytes } from '../../common/text.ts';
import type { Context } from '../context.ts';
import { jsonOption, lifetime } from '../options/common.ts';
import { printJson, printLines } from '../print.ts';
import { versionJson } from '../views/adapters.ts';
import { type RegistryFlags, registryOption, VERSION_HELP, withRegistry } from './with-registry.ts';

interface RemoveFlags extends RegistryFlags {
  force?: boolean;
}

interface GcFlags extends RegistryFlags {
  delete?: boolean;
  grace?: number;
}

export function registerRemove(adapter: Command, context: Context): void {
  adapter
    .command('rm')
    .description(
      'remove a version; its files stay until you run "lora-swarm adapter gc --delete", at least 24 hours later',
    )
    .argument('<version>', VERSION_HELP)
    .option('--force', 'remove the version even if it has tags other than latest; these tags are deleted')
    .addOption(registryOption())
    .addOption(jsonOption())
    .action((reference: string, flags: RemoveFlags) => remove(context, reference, flags));
  adapter
    .command('gc')
    .description('find files that no version needs (garbage collection), and delete them with --delete')
    .option('--delete', 'delete the files; without this option, the command only lists them')
    .option(
      '--grace <time>',
      'keep the files of versions that were removed less than this time ago, such as 30m, 12h or 7d (default: 24h)',
      lifetime,
    )
    .addOption(registryOption())
    .addOption(jsonOption())
    .action((flags: GcFlags) => collect(context, flags));
}

async function remove(context: Context, reference: string, flags: RemoveFlags): Promise<void> {
  await withRegistry(context, flags, async (registry) => {
    const version = await registry.remove(reference, { force: flags.force === true });
    if (flags.json) printJson(context, { schemaVersion: 1, ...versionJson(version) });
    else printLines(context, [`removed ${version.label}`]);
  });
}

async function collect(context: Context, flags: GcFlags): Promise<void> {
  const { collectGarbage } = await import('../../index.ts');
  await withRegistry(context, flags, async (registry) => {
    const collected = await collectGarbage(registry, {
      delete: flags.delete === true,
      signal: context.signal,
      ...(flags.grace !== undefined && { graceMs: flags.grace }),
    });
    const { blobs, bytes, deleted } = collected;
    if (flags.json) printJson(context, { schemaVersion: 1, ...collected });
    else {
      const lines = blobs.map(({ digest, size }) => `${digest.slice(0, 12)}  ${formatBytes(size)}`);
      const total = `${blobs.length} files, ${formatBytes(bytes)}`;
      const kept = '; files that a version needed within the time of --grace (default: 24h) are kept';
      const advice = blobs.length === 0 ? kept : deleted ? '' : '; add --delete to delete them';
      printLines(context, [...lines, `${deleted ? 'deleted' : 'unneeded'}: ${total}${advice}`]);
    }
  });
}
