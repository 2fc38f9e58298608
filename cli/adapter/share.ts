import { once } from 'node:events';
import type { Command } from 'commander';
import { formatBytes } from '../../common/text.ts';
import type { Registry } from '../../index.ts';
import { SWARM } from '../command-name.ts';
import type { Context } from '../context.ts';
import { usageError } from '../errors.ts';
import { announcedAddress, homeOption, jsonOption, listenAddress } from '../options/common.ts';
import { refuseUnused } from '../options/unused.ts';
import { ProgressLine, printJson, printLines } from '../print.ts';
import { type RegistryFlags, registryOption, VERSION_HELP, withRegistry } from './with-registry.ts';

interface ShareFlags extends RegistryFlags {
  keep?: boolean;
  home?: string;
  listen?: string[];
  announce?: string[];
}

export function registerShare(adapter: Command, context: Context): void {
  adapter
    .command('share')
    .description(
      'print a ticket with which "lora-swarm adapter pull" on another machine fetches a version, and serve the version until Ctrl-C',
    )
    .argument('[version]', `${VERSION_HELP} (default: list the versions that daemons serve)`)
    .option(
      '--keep',
      'let the running coordinator or node of this machine serve the version, also after restarts, until "lora-swarm adapter unshare"; with this option, the command ends at once',
    )
    .option(
      '--listen <multiaddr>',
      'address to listen on, such as /ip4/0.0.0.0/tcp/4040; repeatable (default: any free TCP port)',
      listenAddress,
    )
    .option(
      '--announce <multiaddr>',
      'additional address at which the other machine can reach this one; repeatable',
      announcedAddress,
    )
    .addOption(homeOption())
    .addOption(registryOption())
    .addOption(jsonOption())
    .action(async (reference: string | undefined, flags: ShareFlags, command: Command) => {
      if (reference === undefined) {
        refuseUnused(command, ['keep', 'listen', 'announce', 'home'], 'with a version');
      } else if (!flags.keep) refuseUnused(command, ['home'], 'with --keep');
      const { keepShared, listShared } = await import('./keep-share.ts');
      if (reference === undefined) return listShared(context, flags);
      if (!flags.keep) return share(context, reference, flags);
      if (flags.listen || flags.announce)
        throw usageError(
          'with --keep, the daemon chooses the addresses',
          'leave out --listen and --announce',
        );
      return keepShared(context, reference, flags);
    });
  adapter
    .command('unshare')
    .description(
      'stop sharing a version that "lora-swarm adapter share --keep" shares; its ticket stops working',
    )
    .argument('<version>', VERSION_HELP)
    .addOption(registryOption())
    .addOption(jsonOption())
    .action(async (reference: string, flags: ShareFlags) =>
      (await import('./keep-share.ts')).unshare(context, reference, flags),
    );
}

async function share(context: Context, reference: string, flags: ShareFlags): Promise<void> {
  const [{ shareVersion }, { silentLogger }] = await Promise.all([
    import('../../registry/share.ts'),
    import('../../monitor/logs/log.ts'),
  ]);
  const { signal } = context;
  await withRegistry(context, flags, async (registry) => {
    const version = registry.resolve(reference);
    const { listen, announce } = flags;
    const options = { ...(listen && { listen }), ...(announce && { announce }) };
    const shared = await shareVersion(registry, version, options, { log: silentLogger });
    try {
      const { ticket, addresses } = shared;
      const { label, digest } = version;
      if (flags.json)
        printJson(context, { schemaVersion: 1, event: 'ready', version: label, digest, addresses, ticket });
      else {
        printLines(context, [
          `sharing ${label}  ${digest.slice(0, 12)}  until Ctrl-C`,
          `ticket ${ticket}`,
          `next: on the other machine, run ${SWARM} adapter pull - and paste the ticket; anyone with the ticket can fetch the version`,
        ]);
      }
      if (!signal.aborted) await once(signal, 'abort');
    } finally {
      await shared.stop();
    }
  });
}

/** Fetches a version with a ticket, with progress on stderr. */
export async function fetchShared(
  context: Context,
  registry: Registry,
  ticket: string,
  name: string | undefined,
) {
  const [{ fetchVersion }, { silentLogger }] = await Promise.all([
    import('../../registry/share.ts'),
    import('../../monitor/logs/log.ts'),
  ]);
  const progress = new ProgressLine(context);
  const onProgress = ({ bytes, total }: { bytes: number; total: number }): void =>
    progress.update(`fetched ${formatBytes(bytes)} of ${formatBytes(total)}`);
  try {
    const options = { ticket, name, signal: context.signal, onProgress };
    return await fetchVersion(registry, options, { log: silentLogger });
  } finally {
    progress.clear();
  }
}

/** Reads one line from stdin. */
export async function readLine({ stdin, stderr, signal }: Context, question: string): Promise<string> {
  if (stdin.isTerminal) stderr.write(question);
  let text = '';
  for await (const piece of stdin.read(signal)) {
    text += piece;
    if (text.includes('\n')) break;
  }
  return text.split('\n')[0]!.trim();
}
