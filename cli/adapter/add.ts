import { resolve } from 'node:path';
import type { Command } from 'commander';
import { resolveCache } from '../../common/files/user-folders.ts';
import type { Context } from '../context.ts';
import { BASE_MODEL, baseFolder } from '../models/base-model.ts';
import { collect, jsonOption } from '../options/common.ts';
import { printJson, printLines } from '../print.ts';
import { versionJson } from '../views/adapters.ts';
import { adapterName, type RegistryFlags, registryOption, withRegistry } from './with-registry.ts';

interface AddFlags extends RegistryFlags {
  model?: string;
  tag?: string[];
}

export function registerAdd(adapter: Command, context: Context): void {
  adapter
    .command('add')
    .description('add a PEFT folder to the registry as a new version of an adapter')
    .argument(
      '<name>',
      'name of the adapter, made of the characters a to z, 0 to 9, ".", "_" and "-"',
      adapterName,
    )
    .argument('<dir>', 'PEFT folder: adapter_config.json and adapter_model.safetensors')
    .option(
      '--model <model>',
      `base of the adapter: ${BASE_MODEL}; needed if another program wrote the adapter (default: the base that the adapter names by its digest)`,
    )
    .option(
      '--tag <tag>',
      'tag to move to the added version, in addition to the tag latest; repeatable',
      collect,
    )
    .addOption(registryOption())
    .addOption(jsonOption())
    .action((name: string, dir: string, flags: AddFlags) => add(context, name, dir, flags));
}

async function add(context: Context, name: string, dir: string, flags: AddFlags): Promise<void> {
  const { addFolder } = await import('../../index.ts');
  const { cwd, environment, signal } = context;
  const base = flags.model === undefined ? undefined : await baseFolder(context, flags.model);
  await withRegistry(context, flags, async (registry) => {
    const { version, created } = await addFolder(registry, {
      name,
      folder: resolve(cwd, dir),
      ...(base !== undefined && { base }),
      ...(flags.tag && { tags: flags.tag }),
      reason: 'lora-swarm adapter add',
      cacheDir: resolveCache(environment, cwd),
      signal,
    });
    if (flags.json) printJson(context, { schemaVersion: 1, created, ...versionJson(version) });
    else {
      const what = created ? 'added' : 'already there, with the same base and files:';
      printLines(context, [`${what} ${version.label}  ${version.digest.slice(0, 12)}`]);
    }
  });
}
