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
import { temporaryFolder } from '../../../utils/folder.ts';
import { withCode } from '../../../utils/source/codes.ts';
import { expectMode } from '../../../utils/source/platform.ts';

let calls: string[];
let code: number;
let service: Service;
let folder: string;
/** Outputs of the next calls that ask for the state of the service. Without one, the output is "active". */
let states: string[];

beforeEach(async () => {
  calls = [];
  code = 0;
  states = [];
  folder = await temporaryFolder();
  service = { role: 'node', home: folder, command: ['node', 'x.js'], environment: {}, writable: [] };
});

function systemFor(platform: NodeJS.Platform): ServiceSystem {
  return {
    manager: managerOf(platform),
    user: { folder, config: join(folder, '.config'), id: 501 },
    run: async (call: Call) => {
      calls.push(call.join(' '));
      const isState = /is-active|launchctl print|Query/.test(call.join(' '));
      const output = (isState ? states.shift() : undefined) ?? 'active\n';
      return { code, output: code === 0 ? output : 'Failed to connect to bus\n' };
    },
    pause: async () => {
      calls.push('pause');
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
  states = ['inactive\n'];
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

it.each<[NodeJS.Platform, string[], (RegExp | string)[]]>([
  [
    'linux',
    ['active\n', 'inactive\n'],
    [
      'systemctl --user disable --now lora-swarm-node.service',
      'systemctl --user is-active lora-swarm-node.service',
      'pause',
      'systemctl --user is-active lora-swarm-node.service',
      'systemctl --user daemon-reload',
      'systemctl --user enable --now lora-swarm-node.service',
    ],
  ],
  [
    'darwin',
    ['\tstate = running\n', ''],
    [
      'launchctl bootout gui/501/lora-swarm.node',
      'launchctl print gui/501/lora-swarm.node',
      'pause',
      'launchctl print gui/501/lora-swarm.node',
      /^launchctl bootstrap gui\/501 .*lora-swarm\.node\.plist$/,
      'launchctl enable gui/501/lora-swarm.node',
    ],
  ],
  [
    'win32',
    ['ERROR: The system cannot find the file specified.\n'],
    [
      'schtasks /End /TN lora-swarm-node',
      'schtasks /Delete /F /TN lora-swarm-node',
      'schtasks /Query /V /FO CSV /NH /TN lora-swarm-node',
      /^schtasks \/Create \/F \/TN lora-swarm-node \/XML .*service\.xml$/,
      'schtasks /Run /TN lora-swarm-node',
    ],
  ],
])(
  'on %s, install with force stops the running daemon, waits for its end, then starts it again',
  async (platform, answers, expected) => {
    const system = systemFor(platform);
    await installService(service, START, system);
    calls = [];
    states = answers;
    const changed = { ...service, command: ['node', 'y.js'] };
    const prepare = async (): Promise<void> => void calls.push('prepare');
    await installService(changed, { start: true, force: true, prepare }, system);
    expect(calls.indexOf('prepare')).toBe(
      expected.findLastIndex((call) => /is-active|print|Query/.test(String(call))) + 1,
    );
    expect(calls.filter((call) => call !== 'prepare')).toEqual(
      expected.map((call) => (typeof call === 'string' ? call : expect.stringMatching(call))),
    );
  },
);

it('prepares nothing if the file exists and differs', async () => {
  const system = systemFor('linux');
  const { file } = await installService(service, { start: false, force: false }, system);
  await writeFile(file, 'mine');
  const prepare = (): Promise<void> => Promise.reject(new Error('must not run'));
  await expect(installService(service, { ...START, prepare }, system)).rejects.toMatchObject({
    code: 'SERVICE_EXISTS',
  });
});

it('the file of Windows is UTF-16 with a byte order mark, and is found again', async () => {
  const system = systemFor('win32');
  const { file } = await installService(service, START, system);
  expect([...(await readFile(file)).subarray(0, 4)]).toEqual([0xff, 0xfe, '<'.charCodeAt(0), 0]);
  await installService(service, START, system);
  await uninstallService(service, system);
});

it.each<[string, string[]]>([
  ['linux', ['systemctl --user daemon-reload', 'systemctl --user enable --now lora-swarm-node.service']],
  ['darwin', ['launchctl bootstrap', 'launchctl enable']],
])(
  'a failure to start on %s names the file, the reason and all calls that are left',
  async (platform, left) => {
    code = 1;
    const system = systemFor(platform as NodeJS.Platform);
    const failure = await installService(service, START, system).catch((error: unknown) => error);
    expect(failure).toMatchObject({
      code: 'SERVICE_FAILED',
      message: expect.stringContaining('Failed to connect to bus'),
      next: expect.stringMatching(new RegExp(left.join('.*'))),
    });
    expect(failure).toMatchObject({ next: expect.stringContaining(`lora-swarm node --home ${folder}`) });
    expect(() => managerOf('freebsd')).toThrow(withCode('SERVICE_UNSUPPORTED'));
  },
);

it('says which failure means that no systemd of the user runs', () => {
  const { isAbsent } = managerOf('linux');
  expect(
    [
      'Failed to connect to bus: No such file or directory',
      'Failed to connect to user scope bus via local transport: $DBUS_SESSION_BUS_ADDRESS and $XDG_RUNTIME_DIR not defined',
      "System has not been booted with systemd as init system (PID 1). Can't operate.",
      'Failed to enable unit: Unit lora-swarm-node.service is masked.',
    ].map(isAbsent),
  ).toEqual([true, true, true, false]);
});
