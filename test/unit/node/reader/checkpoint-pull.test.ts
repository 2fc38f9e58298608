import { existsSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { pullCheckpoint } from '../../../../node/reader/checkpoint-pull.ts';
import { temporaryFolder } from '../../../utils/folder.ts';
import { withCode } from '../../../utils/source/codes.ts';
import { signerOf } from '../../../utils/swarm/signers.ts';

it('pulling without an address is a usage error that names the options, before a file is written', async () => {
  const output = join(await temporaryFolder(), 'out');
  await expect(pullCheckpoint({ output })).rejects.toMatchObject({
    code: 'NO_ADDRESS',
    kind: 'usage',
    next: expect.stringMatching(/invite.*addresses/),
  });
  expect(existsSync(`${output}.partial`)).toBe(false);
});

it('pulling into a file is refused before a connection is made', async () => {
  const output = join(await temporaryFolder(), 'file');
  await writeFile(output, 'mine');
  const addresses = [`/ip4/127.0.0.1/tcp/9/p2p/${signerOf(9).peerId}`];
  const refused = withCode('FOLDER_UNUSABLE', { path: output });
  await expect(pullCheckpoint({ output, addresses })).rejects.toEqual(refused);
});
