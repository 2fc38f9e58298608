import { resolve } from 'node:path';
import { type Command, Option } from 'commander';
import { claimOutput } from '../../common/files/folders.ts';
import type { AdapterVersion, GgufType, Registry } from '../../index.ts';
import type { Context } from '../context.ts';
import { BASE_MODEL, baseFolder } from '../models/base-model.ts';
import { ggufOption, writingModel } from '../models/gguf.ts';
import { jsonOption } from '../options/common.ts';
import { printJson, printLines } from '../print.ts';
import { versionJson } from '../views/adapters.ts';
import {
  adapterName,
  type RegistryFlags,
  registryOption,
  VERSION_HELP,
  withRegistry,
} from './with-registry.ts';

interface ExportFlags extends RegistryFlags {
  merged?: boolean;
  gguf?: GgufType;
  oci?: boolean;
  model?: string;
  force?: boolean;
}

interface ImportFlags extends RegistryFlags {
  name?: string;
  image?: string;
}

export function registerExport(adapter: Command, context: Context): void {
  adapter
    .command('export')
    .description(
      'write a version to a folder: as a PEFT adapter with a model card, merged into its base, as GGUF, or as an OCI image',
    )
    .argument('<version>', VERSION_HELP)
    .argument('<dir>', 'folder to write to')
    .addOption(
      new Option(
        '--merged',
        'write a merged model: the base with the adapter added to its weights',
      ).conflicts('oci'),
    )
    .addOption(ggufOption('merged').conflicts('oci'))
    .option(
      '--oci',
      'write an OCI image layout (ModelPack), which tools such as oras push to a container registry',
    )
    .option(
      '--model <model>',
      `base for --merged and --gguf: ${BASE_MODEL} (default: the folder where the base was last seen)`,
    )
    .option('--force', 'write into <dir> even if it is not empty')
    .addOption(registryOption())
    .addOption(jsonOption())
    .action((reference: string, dir: string, flags: ExportFlags) => exportTo(context, reference, dir, flags));
  adapter
    .command('import')
    .description('add a version from an OCI image layout that "lora-swarm adapter export --oci" wrote')
    .argument('<dir>', 'folder of the OCI image layout')
    .option(
      '--name <name>',
      'name of the adapter in this registry (default: its name in the layout)',
      adapterName,
    )
    .option('--image <tag>', 'tag of the image, if the layout has several images')
    .addOption(registryOption())
    .addOption(jsonOption())
    .action((dir: string, flags: ImportFlags) => importFrom(context, dir, flags));
}

async function exportTo(context: Context, reference: string, dir: string, flags: ExportFlags): Promise<void> {
  const output = resolve(context.cwd, dir);
  await withRegistry(context, flags, async (registry) => {
    const version = registry.resolve(reference);
    const kind = flags.gguf ? 'gguf' : flags.merged ? 'merged' : flags.oci ? 'oci' : 'peft';
    const gguf = `GGUF file (${flags.gguf}) of the ${flags.merged ? 'merged model' : 'adapter'}`;
    const what = { gguf, merged: 'merged model', oci: 'OCI image layout', peft: 'PEFT adapter' }[kind];
    if (kind === 'merged') await merge(context, registry, version, output, flags);
    else if (kind === 'gguf') await writeGguf(context, registry, version, output, flags);
    else {
      await claimOutput(output, { force: flags.force === true });
      const { exportFolder, exportOci } = await import('../../index.ts');
      await (kind === 'oci' ? exportOci : exportFolder)(registry, version, output, {
        signal: context.signal,
      });
    }
    if (flags.json) printJson(context, { schemaVersion: 1, output, kind, ...versionJson(version) });
    else printLines(context, [`${what} of ${version.label} in ${output}`]);
  });
}

async function merge(
  context: Context,
  registry: Registry,
  version: AdapterVersion,
  output: string,
  flags: ExportFlags,
): Promise<void> {
  const { exportMerged } = await import('../../index.ts');
  const base = flags.model === undefined ? undefined : await baseFolder(context, flags.model);
  const { force = false } = flags;
  await claimOutput(output, { force });
  await writingModel(context, (shared) =>
    exportMerged(registry, version, { ...shared, output, base, force }),
  );
}

async function writeGguf(
  context: Context,
  registry: Registry,
  version: AdapterVersion,
  output: string,
  { gguf: type, merged: merge = false, force = false, model }: ExportFlags,
): Promise<void> {
  const { exportVersionGguf } = await import('../../index.ts');
  const base = model === undefined ? undefined : await baseFolder(context, model);
  await writingModel(context, (shared) =>
    exportVersionGguf(registry, version, { ...shared, output, base, type, merge, force }),
  );
}

async function importFrom(context: Context, dir: string, flags: ImportFlags): Promise<void> {
  const { importOci } = await import('../../index.ts');
  const { cwd, signal } = context;
  const { name, image } = flags;
  await withRegistry(context, flags, async (registry) => {
    const options = { layout: resolve(cwd, dir), name, image, signal };
    const { version, created } = await importOci(registry, options);
    if (flags.json) printJson(context, { schemaVersion: 1, created, ...versionJson(version) });
    else printLines(context, [`${created ? 'imported' : 'already there:'} ${version.label}`]);
  });
}
