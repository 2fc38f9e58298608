import { join } from 'node:path';
import type { Command } from 'commander';
import { writeDurably } from '../../common/files/durable.ts';
import { readToken } from '../../storage/api-token.ts';
import type { Context } from '../context.ts';
import { openFile } from '../daemon/open-file.ts';
import { runningDaemons } from '../daemon/running.ts';
import { cliError } from '../error-codes.ts';
import { homeOption, jsonOption } from '../options/common.ts';
import { printJson, printLines } from '../print.ts';

interface OpenOptions {
  home?: string;
  json?: boolean;
  print?: boolean;
}

export function registerOpen(program: Command, context: Context): void {
  program
    .command('open')
    .description('open the web page of the coordinator or node on this machine in a browser')
    .addOption(homeOption())
    .option(
      '--print',
      'print the address of the page instead of opening it; the address contains the token of the daemon',
    )
    .addOption(jsonOption())
    .action((options: OpenOptions) => open(context, options));
}

async function open(context: Context, { home, json, print }: OpenOptions): Promise<void> {
  const daemons = await runningDaemons(context, home);
  for (const daemon of daemons) {
    const { role, api } = daemon;
    const address = `${api.url}/#token=${encodeURIComponent((await readToken(daemon.home)) ?? '')}`;
    const shown = print ? address : api.url;
    if (!print) await openBrowser(daemon.home, role, address);
    if (json) printJson(context, { schemaVersion: 1, role, home: daemon.home, url: shown });
    else if (print) printLines(context, [daemons.length === 1 ? shown : `${role.padEnd(12)}${shown}`]);
    else printLines(context, [`opened the page of the ${role}: ${shown}`]);
  }
}

/**
 * Opens an address in the user's browser. Other users of the machine can read the arguments of processes. So the
 * browser opens a file in the daemon's home, which only its owner can read, and the file redirects to the address.
 * @throws SwarmError BROWSER_NOT_OPENED
 */
async function openBrowser(home: string, role: string, address: string): Promise<void> {
  const file = join(home, 'page.html');
  const html = `<!doctype html><meta charset="utf-8"><title>lora-swarm</title>
<meta http-equiv="refresh" content="0; url=${address}"><a href="${address}">The page of the ${role}</a>
`;
  await writeDurably(file, html, { mode: 0o600 });
  const reason = await openFile(file);
  if (reason === null) return;
  throw cliError(
    'BROWSER_NOT_OPENED',
    `no browser could be opened: ${reason}`,
    { reason },
    {
      next: `print the address with "lora-swarm open --home ${home} --print", and open it in a browser on this machine; on another machine, forward the port first, for example with "ssh -L"`,
    },
  );
}
