import { expect, it } from 'vitest';
import { dataLines, noteReach, printCreated } from '../../../../cli/job/create.ts';
import type { JobDetail } from '../../../../index.ts';
import { newTally } from '../../../../lora/data/packing/tally.ts';
import { encodeInvite } from '../../../../protocol/access/invite.ts';
import { fakeContext } from '../../../utils/cli-context.ts';

const PEER = '12D3KooWNUPdR7Hj8GWMgRXFKBrYXXAdBJL2F7QBHKGHV2H134sS';

it.each([
  ['127.0.0.2', 1],
  ['192.168.1.5', 1],
  ['8.8.4.4', 0],
])('notes in one short line that an invite has only private addresses: %s', async (ip, lines) => {
  const { context, err } = fakeContext();
  const addresses = ['127.0.0.1', ip].map((one) => `/ip4/${one}/tcp/4040/p2p/${PEER}`);
  await noteReach(context, encodeInvite({ addresses, job: null, token: null }));
  expect(err().split('\n').length - 1).toBe(lines);
  expect(err().length).toBeLessThan(110);
  if (lines === 1) expect(err()).toContain('lora-swarm doctor --swarm');
  expect(err().includes('this machine')).toBe(ip === '127.0.0.2');
});

it('names the left-out samples of both parts of the data, and the bad records of separate held-out files', () => {
  const bad = { origin: { file: 'f', row: 1 }, code: 'ROW_NOT_JSON', reason: 'no object' };
  const read = { rows: 9, bad: 1, reasons: [{ code: bad.code, count: 1, rows: [bad] }] };
  const untrained = [{ origin: { file: 'f', row: 5 }, reason: 'no answer' }];
  const tally = { ...newTally(), samples: 2, untrained: 1, untrainedRows: untrained };
  const linesWith = (heldOutRead: typeof read | null): string[] =>
    dataLines({ read, tally: { ...newTally(), samples: 6 }, heldOutPart: { read: heldOutRead, tally } });
  const other = { origin: { file: 'h', row: 1 }, code: 'ROW_NOT_JSON', reason: 'no object' };
  const separate = linesWith({ ...read, reasons: [{ code: bad.code, count: 1, rows: [other] }] });
  expect(separate.filter((line) => line.startsWith('held-out data: '))).toHaveLength(4);
  expect(separate).toContainEqual(expect.stringMatching(/^held-out data: h:1: /));
  const lines = linesWith(null);
  expect(lines.filter((line) => line.includes('f:1: '))).toHaveLength(1);
  expect(lines.filter((line) => line.startsWith('held-out data: '))).toHaveLength(2);
  expect(lines).toContainEqual(expect.stringMatching(/^held-out data: \D*\b2 samples\b\D+1 /));
  expect(lines).toContainEqual(expect.stringMatching(/^held-out data: f:5: /));
});

it('does not call a job new that existed already, on the terminal and in JSON', async () => {
  const invite = encodeInvite({ addresses: [`/p2p/${PEER}`], job: 'ab'.repeat(32), token: null });
  const created = { job: 'ab'.repeat(32), name: 'moby', invite };
  const job = { name: 'moby', rounds: 8, roundsDone: 3, phase: 'training' };
  const lines = async (isNew: boolean, phase = 'training'): Promise<string[]> => {
    const { context, out, err } = fakeContext();
    const api = { job: async () => ({ ...job, phase }) as JobDetail };
    await printCreated(context, api, { ...created, isNew }, {});
    return [...out().trimEnd().split('\n'), err()];
  };
  const [first, again] = [await lines(true), await lines(false)];
  expect(again).toHaveLength(first.length + 1);
  expect(again.slice(1)).toEqual(first);
  const ended = await lines(false, 'finished');
  expect(ended[0]).toContain('stopped');
  expect(ended.join('\n')).toMatch(/^(?!.*(?:swarm1|lora-swarm node|doctor)).* --from moby".* clone moby"/s);
  const { context, out } = fakeContext();
  const api = { job: () => Promise.reject(new Error('not needed')) };
  await printCreated(context, api, { ...created, isNew: false }, { json: true });
  expect(JSON.parse(out())).toEqual({ schemaVersion: 1, ...created, isNew: false });
});
