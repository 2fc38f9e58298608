import { expect, it } from 'vitest';
import { noteReach } from '../../../../cli/job/create.ts';
import { encodeInvite } from '../../../../protocol/invite.ts';
import { fakeContext } from '../../../utils/cli-context.ts';

const PEER = '12D3KooWNUPdR7Hj8GWMgRXFKBrYXXAdBJL2F7QBHKGHV2H134sS';

it.each([
  ['192.168.1.5', 1],
  ['8.8.4.4', 0],
])('notes in one short line that an invite has only private addresses: %s', async (ip, lines) => {
  const { context, err } = fakeContext();
  const addresses = ['127.0.0.1', ip].map((one) => `/ip4/${one}/tcp/4040/p2p/${PEER}`);
  await noteReach(context, encodeInvite({ addresses, job: null, token: null }));
  expect(err().split('\n').length - 1).toBe(lines);
  expect(err().length).toBeLessThan(110);
  if (lines === 1) expect(err()).toContain('lora-swarm doctor --swarm');
});
