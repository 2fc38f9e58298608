import { type Command, InvalidArgumentError } from 'commander';
import { listenerOf } from '../../coordinator/public/settings.ts';
import type { PublicPageOptions } from '../../index.ts';
import { usageError } from '../errors.ts';
import { collect } from './common.ts';

export interface PublicPageFlags {
  publicPage?: string;
  publicJob?: string[];
  publicContact?: string;
}

/** Adds the options of the public page to a command. */
export function addPublicPageOptions(command: Command): Command {
  return command
    .option(
      '--public-page <host:port>',
      'serve a read-only page about jobs, which needs no token, at this address, such as 0.0.0.0:8080; the page shows progress, losses, and the names and contributions of nodes',
      listener,
    )
    .option(
      '--public-job <name>',
      'name of a job that the public page shows; repeatable (default: all jobs that everyone may join)',
      collect,
    )
    .option(
      '--public-contact <text>',
      'text on the public page that says how to ask for an invite or for the package file, such as an e-mail address',
    );
}

/** Returns the settings of the public page; undefined if there is no such page. @throws SwarmError USAGE */
export function publicPageOf(flags: PublicPageFlags): PublicPageOptions | undefined {
  const { publicPage: listen, publicJob: jobs, publicContact: contact } = flags;
  if (listen !== undefined) return { listen, jobs, contact };
  if (jobs === undefined && contact === undefined) return undefined;
  throw usageError(
    '--public-job and --public-contact need --public-page',
    'add --public-page HOST:PORT, the address at which the page is served',
  );
}

function listener(text: string): string {
  if (listenerOf(text) === null) throw new InvalidArgumentError('Use HOST:PORT, such as 127.0.0.1:8080.');
  return text;
}
