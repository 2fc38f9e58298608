import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { gravest } from '../../../cli/commands/verify.ts';
import { createProgram } from '../../../cli/program.ts';
import { fakeContext } from '../../utils/cli-context.ts';
import { temporaryFolder } from '../../utils/folder.ts';

test('lora-swarm verify refuses options that have no effect on a file of receipts', async () => {
  const file = join(await temporaryFolder(), 'receipts.json');
  await writeFile(file, '{}');
  const run = (...args: string[]) =>
    createProgram(fakeContext().context).parseAsync(['verify', file, ...args], { from: 'user' });
  await expect(run()).rejects.toMatchObject({ code: 'RECEIPTS_MALFORMED' });
  for (const option of ['--from', '--invite-file', '--data', '--model', '--home']) {
    await expect(run(option, '5')).rejects.toMatchObject({
      ...{ code: 'USAGE', message: expect.stringContaining(option) },
    });
  }
});

test('a problem that disproves the coordinator decides the exit code, also after a gap in the record', () => {
  const problem = (code: 'VERIFY_SOURCE' | 'VERIFY_MERGE' | 'VERIFY_WEIGHT') => ({
    code,
    round: 1,
    message: code,
    values: {},
  });
  expect(
    gravest([problem('VERIFY_SOURCE'), problem('VERIFY_MERGE'), problem('VERIFY_WEIGHT')]),
  ).toMatchObject({
    code: 'VERIFY_MERGE',
    kind: 'disproved',
  });
  expect(gravest([problem('VERIFY_SOURCE')])).toMatchObject({ code: 'VERIFY_SOURCE', kind: 'failed' });
  expect(gravest([])).toBeNull();
});
