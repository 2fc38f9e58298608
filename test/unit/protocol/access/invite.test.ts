import fc from 'fast-check';
import { expect, it } from 'vitest';
import {
  decodeInvite,
  encodeInvite,
  INVITE_ADDRESSES,
  INVITE_CHARACTERS,
  looksLikeInvite,
  resolveTarget,
} from '../../../../protocol/access/invite.ts';
import { encodeCbor } from '../../../../protocol/cbor.ts';
import { codeOf } from '../../../utils/source/codes.ts';

const PEER = `12D3KooW${'A'.repeat(44)}`;
const invite = {
  addresses: [`/ip4/192.0.2.1/tcp/4001/p2p/${PEER}`],
  job: 'ab'.repeat(32),
  token: 'secret',
};

it('decodes the line that it encoded', () => {
  const line = encodeInvite(invite);
  expect(line).toMatch(/^swarm1[A-Za-z0-9_-]+$/);
  expect(looksLikeInvite(line)).toBe(true);
  expect(decodeInvite(line)).toEqual(invite);
  const open = { ...invite, job: null, token: null };
  expect(decodeInvite(encodeInvite(open))).toEqual(open);
});

it('drops surplus addresses and decodes the longest invite', () => {
  const tail = `/tcp/4001/p2p/${PEER}`;
  const addresses = Array.from({ length: 20 }, () => `/dns4/${'a'.repeat(250 - tail.length)}${tail}`);
  const line = encodeInvite({ ...invite, addresses, token: 't'.repeat(128) });
  expect(line.length).toBeLessThanOrEqual(INVITE_CHARACTERS);
  expect(decodeInvite(line).addresses).toHaveLength(INVITE_ADDRESSES);
});

it('refuses text that is not an invite', () => {
  const line = encodeInvite(invite);
  const broken = [
    '',
    'swarm2abc',
    'swarm1',
    line.slice(0, -3),
    `${line}=`,
    `${line} `,
    line.replace('swarm1', 'swarm1!'),
    `swarm1${'A'.repeat(INVITE_CHARACTERS)}`,
  ];
  for (const text of broken)
    expect(
      codeOf(() => decodeInvite(text)),
      text.slice(0, 40),
    ).toBe('INVITE_INVALID');
});

it('requires the peer id of one coordinator, and characters that are harmless on a terminal', () => {
  const packed = (addresses: readonly string[]): string =>
    `swarm1${Buffer.from(encodeCbor({ ...invite, addresses })).toString('base64url')}`;
  const [good] = invite.addresses as [string];
  expect(decodeInvite(packed([good, `/p2p/${PEER}`])).addresses).toHaveLength(2);
  for (const addresses of [
    [],
    ['/ip4/192.0.2.1/tcp/4001'],
    [`/ip4/192.0.2.1/tcp/4001/p2p/12D3KooW`],
    [`192.0.2.1/p2p/${PEER}`],
    [`/dns4/\u001b]0;owned\u0007/tcp/4001/p2p/${PEER}`],
    [`/dns4/a b/tcp/4001/p2p/${PEER}`],
    [`${good}\n`],
    [good, good.replace(/A$/, 'B')],
    [good.replace('192.0.2.1', '192.0,r.2')],
    [good.replace('/tcp/', '/tcq/')],
  ]) {
    expect(
      codeOf(() => decodeInvite(packed(addresses))),
      JSON.stringify(addresses),
    ).toBe('INVITE_INVALID');
  }
});

it('throws only INVITE_INVALID, whatever the text', () => {
  fc.assert(
    fc.property(
      fc.oneof(
        fc.string(),
        fc.base64String().map((text) => `swarm1${text}`),
      ),
      (text) => {
        const result = codeOf(() => decodeInvite(text));
        expect(result === 'INVITE_INVALID' || typeof result === 'object').toBe(true);
      },
    ),
  );
});

it('gives its token only to the coordinator that it names', () => {
  const line = encodeInvite(invite);
  const other = `/ip4/192.0.2.2/tcp/4001/p2p/12D3KooW${'B'.repeat(44)}`;
  const moved = `/ip4/192.0.2.9/tcp/4001/p2p/${PEER}`;
  expect(resolveTarget({ invite: line })).toEqual(invite);
  expect(resolveTarget({ invite: line, addresses: [moved] }).token).toBe('secret');
  expect(resolveTarget({ invite: line, addresses: [moved, other] }).token).toBeNull();
  expect(resolveTarget({ invite: line, addresses: [other], token: 'own' }).token).toBe('own');
});
