import { expect, it } from 'vitest';
import { connectError, privateAddressesWarning, sortByReach } from '../../../net/addresses.ts';

it('warns if all addresses are private', () => {
  const addresses = [
    '/ip4/127.0.0.1/tcp/4040',
    '/ip4/192.168.1.5/tcp/4040',
    '/ip4/10.0.0.1/tcp/4040',
    '/ip4/100.64.0.1/tcp/4040',
    '/ip6/::1/tcp/4040',
    '/ip6/fd00::1/tcp/4040',
  ];
  expect(privateAddressesWarning(addresses)).toMatchObject({
    code: 'ADDRESSES_PRIVATE',
    values: { addresses, reach: 'local network' },
    next: expect.stringContaining('--announce'),
  });
  expect(privateAddressesWarning([])).toMatchObject({ code: 'ADDRESSES_PRIVATE' });
  // An address of the local network shows that the coordinator does not listen on loopback only.
  expect(privateAddressesWarning(addresses)!.next).not.toContain('--listen');
  const onLoopback = privateAddressesWarning(['/ip4/127.0.0.1/tcp/4040', '/ip6/::1/tcp/4040'])!;
  expect(onLoopback.next).toMatch(/--listen.*--announce/);
  expect(onLoopback).toMatchObject({
    values: { reach: 'this machine' },
    message: expect.stringContaining('this machine'),
  });
});

it.each(['/ip4/8.8.4.4/tcp/4040', '/ip6/2600::1/tcp/4040', '/dns4/swarm.example/tcp/4040'])(
  'does not warn if one address is public: %s',
  (address) => {
    expect(privateAddressesWarning(['/ip4/127.0.0.1/tcp/4040', address])).toBeNull();
  },
);

it('sorts addresses by reach', () => {
  const [loopback, local, open, name] = [
    '/ip4/127.0.0.1/tcp/1',
    '/ip4/192.168.1.5/tcp/1',
    '/ip4/8.8.4.4/tcp/1',
    '/dns4/swarm.example/tcp/1',
  ];
  expect(sortByReach([loopback!, local!, open!, name!])).toEqual([open, name, local, loopback]);
});

it.each([
  '12D3KooWNUPdR7Hj8GWMgRXFKBrYXXAdBJL2F7QBHKGHV2H134sS',
  '12D3KooWGHw1atK5zFjfMzWhjAwYoVoWUiejqQNZdnsz47984c3H',
])('finds the reason of a failed dial whatever letters a peer id has: %s', (peer) => {
  const other = '12D3KooWKXYVMnTnPRXBkcebPvzcrvdPYSS6Rpz2ponQkE96FPCC';
  const cause = new Error(
    `Payload identity key ${peer} does not match expected remote identity key ${other}`,
  );
  expect(connectError('/ip4/127.0.0.1/tcp/4040', cause)).toMatchObject({
    code: 'CONNECT_FAILED',
    values: { reason: 'other-peer' },
  });
});

it.each([
  ['getaddrinfo ENOTFOUND closed.example', 'unresolved'],
  ['connect ECONNREFUSED 127.0.0.1:4040', 'refused'],
  ['No transport was configured for /dns4/reset.example/udp/4040', 'unsupported'],
])('finds the reason of a failed dial: %s', (text, reason) => {
  expect(connectError('/ip4/127.0.0.1/tcp/4040', new Error(text))).toMatchObject({ values: { reason } });
});
