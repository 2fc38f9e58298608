import { CODE_P2P, type Multiaddr, multiaddr } from '@multiformats/multiaddr';
import { isSwarmError, type SwarmError } from '../common/errors.ts';
import { DIAL_TIMEOUT_MS } from '../protocol/limits.ts';
import { netError } from './errors.ts';

/** A multiaddr, and the peer id at its end if it has one. @throws SwarmError CONNECT_FAILED */
export function parseAddress(address: string): { multiaddr: Multiaddr; peer: string | null } {
  try {
    const parsed = multiaddr(address);
    const peer = parsed.getComponents().findLast(({ code }) => code === CODE_P2P)?.value ?? null;
    return { multiaddr: parsed, peer };
  } catch (cause) {
    throw netError(
      'CONNECT_FAILED',
      `"${address.slice(0, 200)}" is not a multiaddr; one looks like /ip4/192.0.2.1/tcp/4001 or .../p2p/12D3KooW...`,
      { address, reason: 'malformed' },
      { cause },
    );
  }
}

/** What people can check, by what the dial ran into. */
const hints: readonly { pattern: RegExp; reason: string; hint: string }[] = [
  {
    pattern: /ECONNREFUSED/,
    reason: 'refused',
    hint: 'nothing listens there: check that the other side runs, and its port',
  },
  {
    pattern: /ENOTFOUND|EAI_AGAIN|DNS/i,
    reason: 'unresolved',
    hint: 'the host name is not known: check its spelling and your DNS',
  },
  {
    pattern: /EHOSTUNREACH|ENETUNREACH|ENETDOWN/,
    reason: 'unroutable',
    hint: 'there is no route to that address from here',
  },
  {
    pattern: /UnexpectedPeer|does not match expected|payload identity key/i,
    reason: 'other-peer',
    hint: 'another peer answers there: the id at the end of the address is out of date',
  },
  { pattern: /dial self/i, reason: 'self', hint: 'that is our own address' },
  {
    pattern: /ECONNRESET|closed|reset|EncryptionFailed|denied/i,
    reason: 'hung-up',
    hint: 'something answers there, but hangs up: check that it is a lora-swarm peer, and that neither it nor its share for your network is full',
  },
  {
    pattern: /No transport|could not be dialed|no valid addresses/i,
    reason: 'unsupported',
    hint: 'only TCP addresses can be dialled',
  },
];

/** An error that says what was dialled, what happened, and what to check. */
export function connectError(address: string, cause: unknown): SwarmError {
  if (isSwarmError(cause, 'CONNECT_FAILED')) return cause;
  const text = describe(cause);
  const timedOut = isSwarmError(cause, 'DEADLINE_EXCEEDED') || /timeout|timed out/i.test(text);
  const { reason, hint } = timedOut
    ? {
        reason: 'timeout',
        hint: `no answer within ${DIAL_TIMEOUT_MS / 1000} s: check address, firewall and port forwarding`,
      }
    : (hints.find(({ pattern }) => pattern.test(text)) ?? { reason: 'unknown', hint: text });
  return netError(
    'CONNECT_FAILED',
    `could not connect to ${address}: ${hint}`,
    { address, reason, cause: text },
    { cause },
  );
}

function describe(error: unknown): string {
  if (error instanceof AggregateError) return error.errors.map(describe).join('; ');
  return error instanceof Error ? `${error.name}: ${error.message}` : String(error);
}
