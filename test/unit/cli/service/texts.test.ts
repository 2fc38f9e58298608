import { spawnSync } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { launchd } from '../../../../cli/service/launchd.ts';
import type { Service, ServiceManager } from '../../../../cli/service/service.ts';
import { systemd } from '../../../../cli/service/systemd.ts';
import { windowsTasks } from '../../../../cli/service/windows-tasks.ts';
import { temporaryFolder } from '../../../utils/folder.ts';

const service: Service = {
  role: 'node',
  home: '/home/ada/a & b',
  command: ['/usr/bin/node', '/opt/swarm.js', 'node', '--home', '/home/ada/a & b', '--name', 'x "$1" 50%\\'],
  environment: { SWARM_CACHE: '/big/cache' },
  writable: ['/big/cache'],
};
const user = { folder: '/home/ada', config: '/home/ada/.config', id: 501 };

it.each([systemd, launchd])('the home of a daemon can be read from its service file ($name)', (manager) => {
  for (const home of ['/srv/node', '/home/ada/a & b', '/a "$1" $$ 50%% \\n\n<&lt;>']) {
    const text = manager.text({ ...service, home, command: ['node', 'node', '--home', home, '--name', 'x'] });
    expect(manager.homeIn(text)).toBe(home);
  }
  expect(manager.homeIn('')).toBeNull();
});

it('a unit of systemd quotes its words, restarts failures and limits what the daemon may do', () => {
  const lines = systemd.text(service).split('\n');
  expect(systemd.file(service, user)).toBe(join('/home/ada/.config', 'systemd/user/lora-swarm-node.service'));
  expect(lines).toContain(
    'ExecStart="/usr/bin/node" "/opt/swarm.js" "node" "--home" "/home/ada/a & b" "--name" "x \\"$$1\\" 50%%\\\\"',
  );
  for (const line of [
    'Environment="SWARM_CACHE=/big/cache"',
    'Restart=on-failure',
    'RestartPreventExitStatus=2 5',
    'TimeoutStopSec=15',
    'NoNewPrivileges=yes',
    'ProtectSystem=strict',
  ]) {
    expect(lines).toContain(line);
  }
  expect(lines.find((line) => line.startsWith('ReadWritePaths='))).toContain(
    '"-/home/ada/a & b" "-/big/cache"',
  );
  expect(lines.join('\n')).not.toMatch(/^(MemoryDenyWriteExecute|PrivateDevices|ProtectClock)/m);
});

it('a unit of systemd doubles a dollar sign only in the command line, where it begins a variable', () => {
  const text = systemd.text({ ...service, home: '/home/a$b', environment: { SWARM_CACHE: '/c$d' } });
  expect(text).toContain('Environment="SWARM_CACHE=/c$d"\n');
  expect(text).toContain('ReadWritePaths="-/home/a$b" ');
});

it('systemd finds no fault in the unit', async ({ skip }) => {
  if (spawnSync('systemd-analyze', ['--version']).status !== 0) return skip('there is no systemd-analyze');
  const file = join(await temporaryFolder(), 'lora-swarm-node.service');
  await writeFile(
    file,
    systemd.text({ ...service, command: [process.execPath, ...service.command.slice(1)] }),
  );
  const { status, stderr } = spawnSync('systemd-analyze', ['verify', '--man=no', file], { encoding: 'utf8' });
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  const security = spawnSync('systemd-analyze', ['security', '--offline=true', '--no-pager', file], {
    encoding: 'utf8',
  });
  const [, exposure] = /exposure level for \S+: ([\d.]+)/.exec(security.stdout)!;
  // systemd 252 gives the unit an exposure of 5.6. Other versions weigh the options a little differently.
  expect(Number(exposure)).toBeLessThan(6.5);
});

it('an agent of launchd restarts failures and escapes its texts', () => {
  const text = launchd.text(service);
  expect(launchd.file(service, user)).toBe(join('/home/ada', 'Library/LaunchAgents/lora-swarm.node.plist'));
  expect(text).toContain('<string>/home/ada/a &amp; b</string>');
  expect(text).toMatch(/<key>SuccessfulExit<\/key>\s*<false\/>/);
  expect(text).toMatch(/<key>Umask<\/key>\s*<integer>63<\/integer>/);
  expect(text).toMatch(/<key>SWARM_CACHE<\/key>\s*<string>\/big\/cache<\/string>/);
  expect(text).toContain(join('/home/ada/a &amp; b', 'logs', 'node-service.log'));
  expect(launchd.start(service, user)[0]).toEqual([
    'launchctl',
    'bootstrap',
    'gui/501',
    launchd.file(service, user),
  ]);
});

it('a task of Windows starts at login, without a time limit, and sets variables with cmd', () => {
  const text = windowsTasks.text(service);
  expect(text).toContain('<LogonTrigger>');
  expect(text).toContain('<ExecutionTimeLimit>PT0S</ExecutionTimeLimit>');
  expect(text).toContain('<Command>cmd.exe</Command>');
  expect(text).toContain(
    '/d /s /c "set "SWARM_CACHE=/big/cache"&amp;&amp; /usr/bin/node /opt/swarm.js node --home',
  );
  const plain = windowsTasks.text({ ...service, environment: {} });
  expect(plain).toContain('<Command>/usr/bin/node</Command>');
  expect(plain).toContain('"/home/ada/a &amp; b" --name "x \\"$1\\" 50%\\\\"');
});

// Examples of outputs, from the documentation of each program. No service manager runs in the tests.
it.each<[ServiceManager, string, boolean]>([
  [systemd, 'active\n', true],
  [systemd, 'inactive\n', false],
  [systemd, 'activating\n', false],
  [launchd, 'gui/501/lora-swarm.node = {\n\tactive count = 1\n\tstate = running\n', true],
  [launchd, 'gui/501/lora-swarm.node = {\n\tstate = not running\n', false],
  [windowsTasks, '"PC","\\lora-swarm-node","N/A","Running","Interactive only","27.11.2026","267009"', true],
  [windowsTasks, '"PC","\\lora-swarm-node","N/A","Bereit","Interactive only","27.11.2026","1"', false],
])('$name reports a running service: %j is %s', (manager, output, running) => {
  expect(manager.isRunning({ code: 0, output })).toBe(running);
});
