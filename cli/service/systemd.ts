import { join } from 'node:path';
import { exitCodes } from '../exit-codes.ts';
import { MARK, RESTART_SECONDS, type ServiceManager, STOP_SECONDS, serviceName } from './service.ts';

/**
 * Restrictions of the process. Options that drop capabilities (such as ProtectClock, ProtectKernelModules and
 * PrivateDevices) are missing. A user's systemd may not drop capabilities, so the start would fail.
 * PrivateDevices would also hide the GPU. MemoryDenyWriteExecute is missing, because V8 and the kernels of
 * onnxruntime write machine code at run time.
 */
const HARDENING = `
UMask=0077
NoNewPrivileges=yes
ProtectSystem=strict
PrivateTmp=yes
ProtectKernelTunables=yes
ProtectControlGroups=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
RemoveIPC=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged
SystemCallErrorNumber=EPERM
InaccessiblePaths=-%h/.ssh -%h/.gnupg -%h/.aws -%h/.kube -%h/.mozilla -%h/.password-store`.trim();

/** Cache folders of graphics drivers. A driver starts faster if it can use its cache. */
const DRIVER_CACHES = '-%h/.cache/mesa_shader_cache -%h/.nv';

/** User units of systemd. */
export const systemd: ServiceManager = {
  name: 'systemd',
  encoding: 'utf8',
  file: ({ role }, { config }) => join(config, 'systemd', 'user', unit(role)),
  text: ({ role, home, command, environment, writable }) => `# ${MARK}
[Unit]
Description=lora-swarm ${role}

[Service]
Type=exec
ExecStart=${command.map(quoted).join(' ')}
${Object.entries(environment)
  .map(([name, value]) => `Environment=${quotedValue(`${name}=${value}`)}\n`)
  .join('')}Restart=on-failure
RestartSec=${RESTART_SECONDS}
# A wrong option or a refused invite stays wrong.
RestartPreventExitStatus=${exitCodes.usage} ${exitCodes.refused}
SuccessExitStatus=${exitCodes.interrupted}
# The daemon tells its child processes to stop. After the timeout, systemd kills all of them.
KillMode=mixed
TimeoutStopSec=${STOP_SECONDS}
Nice=10

${HARDENING}
ReadWritePaths=${[home, ...writable].map((folder) => quotedValue(`-${folder}`)).join(' ')} ${DRIVER_CACHES}

[Install]
WantedBy=default.target
`,
  homeIn: (text) => {
    const word = /^ExecStart=.*? "--home" "((?:[^"\\]|\\.)*)"/m.exec(text)?.[1];
    return word === undefined ? null : unquoted(word);
  },
  start: ({ role }) => [
    ['systemctl', '--user', 'daemon-reload'],
    ['systemctl', '--user', 'enable', '--now', unit(role)],
  ],
  stop: ({ role }) => [['systemctl', '--user', 'disable', '--now', unit(role)]],
  forget: () => [['systemctl', '--user', 'daemon-reload']],
  // The words of systemctl without a bus of the user, for example in a container and after su.
  isAbsent: (output) => /connect to .*bus|BUS_ADDRESS|not been booted with systemd/i.test(output),
  state: ({ role }) => ['systemctl', '--user', 'is-active', unit(role)],
  isRunning: ({ output }) => output.trim() === 'active',
  logs: ({ role }, { lines, follow }) => [
    'journalctl',
    '--user',
    `--unit=${unit(role)}`,
    `--lines=${lines}`,
    ...(follow ? ['--follow'] : ['--no-pager']),
  ],
  advice:
    'the service runs while you are logged in; "loginctl enable-linger" lets it run from the start of the machine',
};

function unit(role: 'coordinator' | 'node'): string {
  return `${serviceName(role)}.service`;
}

/**
 * Quotes a word of a unit file. In such a file, "%" begins a specifier and "$" a variable.
 * @see systemd.syntax(7), "Quoting", and systemd.service(5), "Command lines"
 */
function quoted(word: string): string {
  return quotedValue(word).replaceAll('$', '$$$$');
}

/** Reverses {@link quoted}. @param word the text between the quotation marks */
function unquoted(word: string): string {
  return word
    .replaceAll('$$', () => '$')
    .replaceAll('%%', '%')
    .replace(/\\(.)/g, (_, character: string) => (character === 'n' ? '\n' : character));
}

/**
 * Quotes a value of the settings `Environment` and `ReadWritePaths`, in which `$` has no meaning, unlike in
 * the command line.
 */
function quotedValue(word: string): string {
  return `"${word.replace(/[\\"]/g, '\\$&').replaceAll('%', '%%').replaceAll('\n', '\\n')}"`;
}
