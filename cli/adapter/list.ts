import type { Command } from 'commander';
import type { Context } from '../context.ts';
import { jsonOption } from '../options/common.ts';
import { printJson, printLines, terminalColumns } from '../print.ts';
import { versionJson, versionLines, versionTable } from '../views/adapters.ts';
import {
  type RegistryFlags,
  registryFolder,
  registryOption,
  VERSION_HELP,
  withRegistry,
} from './with-registry.ts';

interface ListFlags extends RegistryFlags {
  removed?: boolean;
}

export function registerList(adapter: Command, context: Context): void {
  adapter
    .command('list')
    .description('list the adapters in the registry, or the versions of one adapter')
    .argument('[name]', 'name of an adapter (default: all)')
    .option('--removed', 'also list removed versions')
    .addOption(registryOption())
    .addOption(jsonOption())
    .action((name: string | undefined, flags: ListFlags) => list(context, name, flags));
  adapter
    .command('show')
    .description('show a version: its base, files, parents, settings and metrics')
    .argument('<version>', VERSION_HELP)
    .addOption(registryOption())
    .addOption(jsonOption())
    .action((reference: string, flags: RegistryFlags) => show(context, reference, flags));
}

async function list(context: Context, name: string | undefined, flags: ListFlags): Promise<void> {
  await withRegistry(context, flags, (registry) => {
    const removed = flags.removed === true;
    // If the adapter has no versions, `resolve` throws VERSION_UNKNOWN.
    if (name !== undefined && registry.versions(name, { removed }).length === 0) registry.resolve(name);
    const names = name === undefined ? registry.names() : [name];
    const versions = names.flatMap((each) =>
      registry.versions(each, { removed }).map((version) => ({
        version,
        measurements: registry.measurements(version),
      })),
    );
    if (flags.json) {
      const listed = versions.map(({ version, measurements }) => ({ ...versionJson(version), measurements }));
      printJson(context, { schemaVersion: 1, versions: listed });
    } else if (versions.length === 0) {
      printLines(context, [
        `the registry ${registryFolder(context, flags)} is empty; "lora-swarm train" and "lora-swarm adapter add" add versions`,
      ]);
    } else printLines(context, versionTable(versions, terminalColumns(context)));
  });
}

async function show(context: Context, reference: string, flags: RegistryFlags): Promise<void> {
  await withRegistry(context, flags, async (registry) => {
    const version = registry.resolve(reference);
    const measurements = registry.measurements(version);
    const folder = await registry.folder(version);
    if (flags.json) printJson(context, { schemaVersion: 1, ...versionJson(version), measurements, folder });
    else printLines(context, versionLines(version, measurements, folder));
  });
}
