import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { defaultListen, rememberListen } from '../../../net/listen-port.ts';
import { temporaryFolder } from '../../utils/folder.ts';

it('uses the port of the last start, and any free port for the first start', async () => {
  const home = await temporaryFolder();
  expect(await defaultListen(home)).toEqual(['/ip4/0.0.0.0/tcp/0']);
  await rememberListen(home, ['/ip4/192.0.2.7/tcp/40123/p2p/12D3KooWexample', '/ip4/127.0.0.1/tcp/40123']);
  expect(await defaultListen(home)).toEqual(['/ip4/0.0.0.0/tcp/40123']);
});

it('ignores a damaged file', async () => {
  const home = await temporaryFolder();
  await writeFile(join(home, 'listen-port'), 'garbage');
  expect(await defaultListen(home)).toEqual(['/ip4/0.0.0.0/tcp/0']);
});
