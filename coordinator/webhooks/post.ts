import { lookup as systemLookup } from 'node:dns/promises';
import { request as httpRequest } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { isIP, type LookupFunction } from 'node:net';
import { coordinatorError } from '../errors.ts';
import { isPrivateAddress } from './private-addresses.ts';

/**
 * Time for one attempt, in milliseconds: from the name lookup to the headers of the answer. It is shorter than the 10 s for
 * which the command line waits for the outcome of a test.
 */
export const ATTEMPT_MS = 8_000;

/** One request to the receiver of a webhook. */
export interface PostRequest {
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
  /** Whether the request may go to this machine or to a private network. */
  readonly allowPrivate: boolean;
  readonly signal: AbortSignal;
}

/** Sends a request, and returns the HTTP status of the answer. Rejects if no answer arrives. */
export type Post = (request: PostRequest) => Promise<number>;

type Lookup = (host: string) => Promise<readonly { address: string; family: number }[]>;

/**
 * Sends a POST request and ignores the body of the answer. Redirects are not followed.
 * @throws SwarmError WEBHOOK_PRIVATE, or an error of the network
 */
export function postOverHttp(
  { url, headers, body, allowPrivate, signal }: PostRequest,
  { lookup = (host) => systemLookup(host, { all: true }) }: { lookup?: Lookup } = {},
): Promise<number> {
  return new Promise((resolve, reject) => {
    const target = new URL(url);
    // If the host is an IP address, Node.js does not call `lookup`, so the address is checked here.
    if (!allowPrivate && isPrivateUrl(url)) throw privateError();
    const send = target.protocol === 'https:' ? httpsRequest : httpRequest;
    const call = send(target, {
      method: 'POST',
      headers: { ...headers, 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) },
      agent: false,
      signal: AbortSignal.any([signal, AbortSignal.timeout(ATTEMPT_MS)]),
      // The lookup of the connection checks the addresses, because an earlier lookup could give other addresses.
      lookup: allowPrivate ? undefined : checkedLookup(lookup),
    });
    call.on('response', (response) => {
      resolve(response.statusCode ?? 0);
      response.destroy();
    });
    call.on('error', reject);
    call.end(body);
  });
}

/** Returns whether a URL has the name `localhost` or a private address, so that no lookup is needed to see where it leads. */
export function isPrivateUrl(url: string): boolean {
  const host = new URL(url).hostname.replace(/^\[|\]$/g, '');
  return host === 'localhost' || (isIP(host) !== 0 && isPrivateAddress(host));
}

/** Returns a lookup that gives only public addresses. */
function checkedLookup(lookup: Lookup): LookupFunction {
  return (host, options, callback) => {
    lookup(host).then(
      (found) => {
        const open = found.filter(({ address }) => !isPrivateAddress(address));
        const [first] = open;
        if (first === undefined) callback(privateError(), '', 0);
        else if (options.all) callback(null, [...open]);
        else callback(null, first.address, first.family);
      },
      (error: NodeJS.ErrnoException) => callback(error, '', 0),
    );
  };
}

/** Returns the error for a URL that leads to a private address. */
export function privateError() {
  return coordinatorError('WEBHOOK_PRIVATE', 'the URL leads to this machine or to a private network');
}
