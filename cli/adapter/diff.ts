import type { Command } from 'commander';
import type { Context } from '../context.ts';
import { jsonOption } from '../options/common.ts';
import { printJson, printLines, terminalColumns } from '../print.ts';
import { diffLines, lineageLines } from '../views/adapter-history.ts';
import { type RegistryFlags, registryOption, VERSION_HELP, withRegistry } from './with-registry.ts';

interface DiffFlags extends RegistryFlags {
  all?: boolean;
}

export function registerDiff(adapter: Command, context: Context): void {
  adapter
    .command('diff')
    .description('compare two versions: settings, metrics, and the change of each layer')
    .argument('<first>', VERSION_HELP)
    .argument('<second>', 'the other version')
    .option('--all', 'show one line for each module instead of one for each layer')
    .addOption(registryOption())
    .addOption(jsonOption())
    .action((first: string, second: string, flags: DiffFlags) => diff(context, [first, second], flags));
  adapter
    .command('log')
    .description('show the versions that a version was made from, as a tree')
    .argument('<version>', VERSION_HELP)
    .addOption(registryOption())
    .addOption(jsonOption())
    .action((reference: string, flags: RegistryFlags) => log(context, reference, flags));
}

async function diff(context: Context, references: [string, string], flags: DiffFlags): Promise<void> {
  const { diffVersions } = await import('../../index.ts');
  await withRegistry(context, flags, async (registry) => {
    const [first, second] = [registry.resolve(references[0]), registry.resolve(references[1])];
    const found = await diffVersions(registry, first, second, { signal: context.signal });
    if (flags.json) {
      const { label: from } = first;
      printJson(context, { schemaVersion: 1, first: from, second: second.label, ...found });
    } else
      printLines(
        context,
        diffLines([first, second], found, { all: flags.all === true, columns: terminalColumns(context) }),
      );
  });
}

async function log(context: Context, reference: string, flags: RegistryFlags): Promise<void> {
  const { lineageOf } = await import('../../index.ts');
  await withRegistry(context, flags, async (registry) => {
    const lineage = await lineageOf(registry, registry.resolve(reference));
    if (flags.json) printJson(context, { schemaVersion: 1, ...lineage });
    else printLines(context, lineageLines(lineage));
  });
}
