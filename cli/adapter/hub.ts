import type { Command } from 'commander';
import type { Context } from '../context.ts';
import { BASE_MODEL, baseFolder } from '../models/base-model.ts';
import { jsonOption } from '../options/common.ts';
import { printJson, printLines } from '../print.ts';
import { versionJson } from '../views/adapters.ts';
import { fetchShared, readLine } from './share.ts';
import {
  adapterName,
  type RegistryFlags,
  registryOption,
  VERSION_HELP,
  withRegistry,
} from './with-registry.ts';

interface PushFlags extends RegistryFlags {
  private?: boolean;
}

interface PullFlags extends RegistryFlags {
  name?: string;
  model?: string;
}

export function registerHub(adapter: Command, context: Context): void {
  adapter
    .command('push')
    .description(
      'upload a version with its model card to a repository on the Hugging Face hub (environment variables: HF_TOKEN, HF_ENDPOINT)',
    )
    .argument('<version>', VERSION_HELP)
    .argument('<repository>', 'ORG/NAME[@BRANCH]; a repository that does not exist is created')
    .option('--private', 'if the repository is created, make it private')
    .addOption(registryOption())
    .addOption(jsonOption())
    .action((reference: string, repository: string, flags: PushFlags) =>
      push(context, reference, repository, flags),
    );
  adapter
    .command('pull')
    .description(
      'fetch an adapter from the Hugging Face hub, or from a machine that shares it, and add it as a version',
    )
    .argument(
      '<source>',
      'ORG/NAME[@REVISION] on the hub; a ticket of "lora-swarm adapter share"; or - to read the ticket from stdin',
    )
    .option(
      '--name <name>',
      'name of the adapter in this registry (default: its name in the repository or ticket)',
      adapterName,
    )
    .option(
      '--model <model>',
      `base of the adapter: ${BASE_MODEL}; needed if "lora-swarm adapter push" did not upload the adapter`,
    )
    .addOption(registryOption())
    .addOption(jsonOption())
    .action((repository: string, flags: PullFlags) => pull(context, repository, flags));
}

async function push(
  context: Context,
  reference: string,
  repository: string,
  flags: PushFlags,
): Promise<void> {
  const { pushToHub } = await import('../../index.ts');
  const { signal } = context;
  const account = await hubAccount(context);
  await withRegistry(context, flags, async (registry) => {
    const version = registry.resolve(reference);
    const isPrivate = flags.private === true;
    const { commit, url } = await pushToHub(registry, version, { ...account, repository, isPrivate, signal });
    if (flags.json) printJson(context, { schemaVersion: 1, version: version.label, repository, commit, url });
    else printLines(context, [`${version.label} is commit ${commit.slice(0, 12)} of ${repository}`, url]);
  });
}

async function pull(context: Context, given: string, flags: PullFlags): Promise<void> {
  const [{ pullFromHub }, { looksLikeTicket }] = await Promise.all([
    import('../../index.ts'),
    import('../../protocol/access/ticket.ts'),
  ]);
  const source = given === '-' ? await readLine(context, 'ticket: ') : given;
  const { signal } = context;
  const { name } = flags;
  const account = await hubAccount(context);
  const base = flags.model === undefined ? undefined : await baseFolder(context, flags.model);
  await withRegistry(context, flags, async (registry) => {
    const pulled = looksLikeTicket(source)
      ? await fetchShared(context, registry, source, name)
      : await pullFromHub(registry, { ...account, repository: source, name, base, signal });
    const { version, created } = pulled;
    if (flags.json) printJson(context, { schemaVersion: 1, created, ...versionJson(version) });
    else printLines(context, [`${created ? 'added' : 'already there:'} ${version.label}`]);
  });
}

async function hubAccount({ environment, cwd }: Context) {
  const { hubSettings } = await import('../../lora/models/hub/settings.ts');
  const { endpoint, accessToken } = await hubSettings(environment, cwd);
  return { endpoint, accessToken };
}
