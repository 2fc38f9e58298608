import { isIPv6 } from 'node:net';
import { z } from 'zod';

/** Settings of the public page of a coordinator. */
export interface PublicPageOptions {
  /** IP address or host name to listen on, and TCP port: `0.0.0.0:8080`. Port 0 means any free port. */
  readonly listen: string;
  /** Names of the jobs that the page shows. @default all jobs that everyone may join */
  readonly jobs?: readonly string[] | undefined;
  /** How volunteers can ask for an invite or for the package file, for example an e-mail address. @default the page names no contact */
  readonly contact?: string | undefined;
}

/** Returns host and port of `HOST:PORT` or `[IPV6]:PORT`; null if the text is neither. */
export function listenerOf(text: string): { host: string; port: number } | null {
  const [, ipv6, name, digits] = /^(?:\[([^\]]+)\]|([^\s:/[\]]+)):(\d{1,5})$/.exec(text) ?? [];
  const host = ipv6 ?? name;
  const port = Number(digits);
  if (host === undefined || port > 65_535 || (ipv6 !== undefined && !isIPv6(ipv6))) return null;
  return { host, port };
}

/** Maximum number of jobs in `PublicPageOptions.jobs`. */
const NAMED_JOBS = 1000;

export const publicPageSchema = z.strictObject({
  listen: z.string().refine((text) => listenerOf(text) !== null, {
    error: 'must be HOST:PORT, such as 127.0.0.1:8080 or [::1]:8080',
  }),
  jobs: z.array(z.string().min(1).max(64)).max(NAMED_JOBS).optional(),
  contact: z.string().min(1).max(200).optional(),
});
