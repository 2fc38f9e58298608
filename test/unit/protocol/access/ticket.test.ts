import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { isSwarmError } from '../../../../common/errors.ts';
import {
  decodeTicket,
  encodeTicket,
  TICKET_CHARACTERS,
  type Ticket,
} from '../../../../protocol/access/ticket.ts';
import { encodeCbor } from '../../../../protocol/cbor.ts';
import { withCode } from '../../../utils/source/codes.ts';
import { signerOf } from '../../../utils/swarm/signers.ts';

const PEER = signerOf(1).peerId;

const ticket: Ticket = {
  addresses: [`/ip4/127.0.0.1/tcp/4040/p2p/${PEER}`],
  version: 'a'.repeat(64),
  envelope: { digest: 'b'.repeat(64), size: 1000 },
  key: new Uint8Array(32).fill(7),
};

describe('a ticket', () => {
  it('is one line that gives back its content, and keeps eight addresses', () => {
    const text = encodeTicket(ticket);
    expect(text).toMatch(/^swarmv1[A-Za-z0-9_-]+$/);
    expect(decodeTicket(text)).toEqual(ticket);
    const many = Array.from({ length: 20 }, (_, i) => `/ip4/10.0.0.${i}/tcp/4040/p2p/${PEER}`);
    expect(decodeTicket(encodeTicket({ ...ticket, addresses: many })).addresses).toHaveLength(8);
    const longest = many.map(
      (address) => `/dns4/${'x'.repeat(170)}${address.slice(address.indexOf('/tcp'))}`,
    );
    expect(encodeTicket({ ...ticket, addresses: longest }).length).toBeLessThan(TICKET_CHARACTERS);
  });

  it('is refused with a typed error if it is anything else', () => {
    const forged = (change: object): string =>
      `swarmv1${Buffer.from(encodeCbor({ ...ticket, ...change })).toString('base64url')}`;
    for (const text of [
      '',
      'swarmv1',
      'swarm1abc',
      `swarmv1${'a'.repeat(TICKET_CHARACTERS)}`,
      `${encodeTicket(ticket)} `,
      forged({ key: new Uint8Array(31) }),
      forged({ addresses: [] }),
      forged({ addresses: ['/ip4/127.0.0.1/tcp/1'] }),
      forged({ envelope: { digest: 'b'.repeat(64), size: 2 ** 40 } }),
      forged({ more: 1 }),
    ])
      expect(() => decodeTicket(text), text.slice(0, 40)).toThrow(withCode('TICKET_INVALID'));
    fc.assert(
      fc.property(fc.string(), (text) => {
        try {
          decodeTicket(`swarmv1${text}`);
        } catch (error) {
          expect(isSwarmError(error, 'TICKET_INVALID')).toBe(true);
        }
      }),
    );
  });
});
