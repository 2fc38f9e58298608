import type { Registry } from '../../index.ts';
import { INVITE_ADDRESSES } from '../../protocol/access/invite.ts';
import { readDaemonFile } from '../../storage/daemon-home.ts';
import { SWARM } from '../command-name.ts';
import type { Context } from '../context.ts';
import { runningDaemons } from '../daemon/running.ts';
import { usageError } from '../errors.ts';
import { dateAndTime, printJson, printLines } from '../print.ts';
import { type RegistryFlags, withRegistry } from './with-registry.ts';

interface KeepFlags extends RegistryFlags {
  home?: string;
}

/** Lets the running daemons serve a version, and prints its ticket. */
export async function keepShared(context: Context, reference: string, flags: KeepFlags): Promise<void> {
  const { keepShare } = await import('../../registry/shared-versions.ts');
  await withRegistry(context, flags, async (registry) => {
    const version = registry.resolve(reference);
    const addresses = [...(await daemonAddresses(context, flags, registry))];
    const ticket = await keepShare(registry, version, addresses.slice(0, INVITE_ADDRESSES));
    const { label, digest } = version;
    if (flags.json) {
      printJson(context, { schemaVersion: 1, event: 'kept', version: label, digest, addresses, ticket });
      return;
    }
    printLines(context, [
      `sharing ${label}  ${digest.slice(0, 12)}  while a daemon of this user runs, until "${SWARM} adapter unshare ${label}"`,
      `ticket ${ticket}`,
      `next: on the other machine, run ${SWARM} adapter pull - and paste the ticket; anyone with the ticket can fetch the version`,
    ]);
  });
}

/** Prints the versions that daemons serve. */
export async function listShared(context: Context, flags: KeepFlags): Promise<void> {
  await withRegistry(context, flags, (registry) => {
    const shares = registry.shares.all().map(({ name, number, sharedAt }) => {
      const { label, digest } = registry.resolve({ name, number });
      return { version: label, digest, sharedAt };
    });
    if (flags.json) printJson(context, { schemaVersion: 1, shares });
    else if (shares.length === 0) printLines(context, ['no version is shared']);
    else {
      const lines = shares.map(
        ({ version, digest, sharedAt }) =>
          `${version}  ${digest.slice(0, 12)}  shared since ${dateAndTime(sharedAt)}`,
      );
      printLines(context, lines);
    }
  });
}

/** Stops sharing a version. */
export async function unshare(context: Context, reference: string, flags: KeepFlags): Promise<void> {
  const { endShare } = await import('../../registry/shared-versions.ts');
  await withRegistry(context, flags, (registry) => {
    const version = registry.resolve(reference);
    endShare(registry, version);
    const { label, digest } = version;
    if (flags.json) printJson(context, { schemaVersion: 1, event: 'unshared', version: label, digest });
    else printLines(context, [`${label} is no longer shared; its ticket stops working within seconds`]);
  });
}

/**
 * Returns the multiaddrs of the running daemons that serve the registry.
 * @throws SwarmError DAEMON_NOT_RUNNING; USAGE if the daemons serve another registry
 */
async function daemonAddresses(
  context: Context,
  { home }: KeepFlags,
  registry: Registry,
): Promise<readonly string[]> {
  const daemons = await runningDaemons(context, home);
  const files = await Promise.all(daemons.map((daemon) => readDaemonFile(daemon.home, daemon.role)));
  const serving = files.filter((file) => file?.sharedRegistry === registry.home);
  if (serving.length > 0) return serving.flatMap((file) => file!.addresses);
  const others = files.map((file) => file?.sharedRegistry ?? 'no registry').join(', ');
  throw usageError(
    `the running ${daemons.map(({ role }) => role).join(' and ')} uses the registry ${others}, not ${registry.home}`,
    'start the daemon with the same SWARM_REGISTRY as this command, or name the registry of the daemon with --registry',
  );
}
