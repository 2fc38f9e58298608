import { existsSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeEach, expect, it } from 'vitest';
import {
  installService,
  managerOf,
  type ServiceSystem,
  serviceState,
  uninstallService,
} from '../../../../cli/service/manage.ts';
import type { Call, Service } from '../../../../cli/service/service.ts';
import { withCode } from '../../../utils/codes.ts';
import { temporaryFolder } from '../../../utils/folder.ts';
import { expectMode } from '../../../utils/platform.ts';

let calls: string[];
let code: number;
let service: Service;
let folder: string;

beforeEach(async () => {
  calls = [];
  code = 0;
  folder = await temporaryFolder();
  service = { role: 'node', home: folder, command: ['node', 'x.js'], environment: {}, writable: [] };
});

function systemFor(platform: NodeJS.Platform): ServiceSystem {
  return {
    manager: managerOf(platform),
    user: { folder, config: join(folder, '.config'), id: 501 },
    run: async (call: Call) => {
      calls.push(call.join(' '));
      return { code, output: code === 0 ? 'active\n' : 'Failed to connect to bus\n' };
    },
  };
}

const START = { start: true, force: false };

it('install writes a private file and starts the service; uninstall removes both', async () => {
  const system = systemFor('linux');
  const { file } = await installService(service, START, system);
  await expectMode(file, 0o600);
  expect(calls).toEqual([
    'systemctl --user daemon-reload',
    'systemctl --user enable --now lora-swarm-node.service',
  ]);
  expect(await serviceState(service, system)).toMatchObject({ installed: true, running: true });
  await uninstallService(service, system);
  expect(calls).toContain('systemctl --user disable --now lora-swarm-node.service');
  expect(existsSync(file)).toBe(false);
  expect(await serviceState(service, system)).toMatchObject({ installed: false, running: false });
  await expect(uninstallService(service, system)).rejects.toMatchObject({ code: 'SERVICE_NOT_FOUND' });
});

it('install again changes nothing; a file that differs is replaced only with force', async () => {
  const system = systemFor('darwin');
  const { file } = await installService(service, { start: false, force: false }, system);
  await installService(service, { start: false, force: false }, system);
  expect(calls).toEqual([]);
  await writeFile(file, 'mine');
  await expect(installService(service, START, system)).rejects.toMatchObject({
    code: 'SERVICE_EXISTS',
    values: { file },
  });
  await expect(uninstallService(service, system)).rejects.toMatchObject({ code: 'SERVICE_EXISTS' });
  expect(await readFile(file, 'utf8')).toBe('mine');
  await installService(service, { start: false, force: true }, system);
  expect(await readFile(file, 'utf8')).toContain('lora-swarm.node');
});

it('the file of Windows is UTF-16 with a byte order mark, and is found again', async () => {
  const system = systemFor('win32');
  const { file } = await installService(service, START, system);
  expect([...(await readFile(file)).subarray(0, 4)]).toEqual([0xff, 0xfe, '<'.charCodeAt(0), 0]);
  await installService(service, START, system);
  await uninstallService(service, system);
});

it('a failure to start names the file, the reason and the call', async () => {
  code = 1;
  await expect(installService(service, START, systemFor('linux'))).rejects.toMatchObject({
    code: 'SERVICE_FAILED',
    message: expect.stringContaining('Failed to connect to bus'),
    next: expect.stringContaining('systemctl --user daemon-reload'),
  });
  expect(() => managerOf('freebsd')).toThrow(withCode('SERVICE_UNSUPPORTED'));
});
