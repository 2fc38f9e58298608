import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { defaultListen, rememberListen } from '../../../net/listen-port.ts';
import { temporaryFolder } from '../../utils/folder.ts';

it('a daemon listens on the port of its last start, the first time on any', async () => {
  const home = await temporaryFolder();
  expect(await defaultListen(home)).toEqual(['/ip4/0.0.0.0/tcp/0']);
  await rememberListen(home, ['/ip4/192.0.2.7/tcp/40123/p2p/12D3KooWexample', '/ip4/127.0.0.1/tcp/40123']);
  expect(await defaultListen(home)).toEqual(['/ip4/0.0.0.0/tcp/40123']);
});

it('a damaged file is no reason not to start', async () => {
  const home = await temporaryFolder();
  await writeFile(join(home, 'listen-port'), 'garbage');
  expect(await defaultListen(home)).toEqual(['/ip4/0.0.0.0/tcp/0']);
});
