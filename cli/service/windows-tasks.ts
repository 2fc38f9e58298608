import { join } from 'node:path';
import { MARK, type ServiceManager, serviceName } from './service.ts';
import { xmlText } from './xml.ts';

/** Scheduled tasks of Windows, which start when the user logs in. */
export const windowsTasks: ServiceManager = {
  name: 'Windows task scheduler',
  // schtasks reads XML in UTF-16.
  encoding: 'utf16le',
  file: ({ home }) => join(home, 'service.xml'),
  text: ({ role, home, command: [program, ...args], environment }) => `<?xml version="1.0" encoding="UTF-16"?>
<!-- ${MARK} -->
<Task version="1.2" xmlns="http://schemas.microsoft.com/windows/2004/02/mit/task">
  <RegistrationInfo>
    <Description>lora-swarm ${role}</Description>
  </RegistrationInfo>
  <Triggers>
    <LogonTrigger>
      <Enabled>true</Enabled>
    </LogonTrigger>
  </Triggers>
  <Settings>
    <MultipleInstancesPolicy>IgnoreNew</MultipleInstancesPolicy>
    <DisallowStartIfOnBatteries>false</DisallowStartIfOnBatteries>
    <StopIfGoingOnBatteries>false</StopIfGoingOnBatteries>
    <ExecutionTimeLimit>PT0S</ExecutionTimeLimit>
    <Priority>8</Priority>
    <RestartOnFailure>
      <Interval>PT1M</Interval>
      <Count>999</Count>
    </RestartOnFailure>
  </Settings>
  <Actions>
    <Exec>
      <Command>${xmlText(commandOf(program!, environment))}</Command>
      <Arguments>${xmlText(argumentsOf([program!, ...args], environment))}</Arguments>
      <WorkingDirectory>${xmlText(home)}</WorkingDirectory>
    </Exec>
  </Actions>
</Task>
`,
  // The file is in the home of the daemon, so a caller that has found the file knows the home already.
  homeIn: () => null,
  start: (service, user) => [
    // Without /F, schtasks asks before it replaces a task.
    ['schtasks', '/Create', '/F', '/TN', serviceName(service.role), '/XML', windowsTasks.file(service, user)],
    ['schtasks', '/Run', '/TN', serviceName(service.role)],
  ],
  stop: ({ role }) => [
    ['schtasks', '/End', '/TN', serviceName(role)],
    ['schtasks', '/Delete', '/F', '/TN', serviceName(role)],
  ],
  forget: () => [],
  isAbsent: () => false,
  // schtasks prints words in the language of the system. The result 267009 (SCHED_S_TASK_RUNNING) is the same
  // in every language.
  state: ({ role }) => ['schtasks', '/Query', '/V', '/FO', 'CSV', '/NH', '/TN', serviceName(role)],
  isRunning: ({ output }) => output.includes('"267009"'),
  logs: ({ role, home }, { lines, follow }) => [
    'powershell',
    '-NoProfile',
    '-Command',
    `Get-Content -Tail ${lines}${follow ? ' -Wait' : ''} -LiteralPath '${join(home, 'logs', `${role}.log`).replaceAll("'", "''")}'`,
  ],
  advice: 'the service runs while you are logged in',
};

/** A scheduled task cannot set environment variables, so cmd.exe sets them before it starts the program. */
function commandOf(program: string, environment: Readonly<Record<string, string>>): string {
  return Object.keys(environment).length === 0 ? program : 'cmd.exe';
}

function argumentsOf(command: readonly string[], environment: Readonly<Record<string, string>>): string {
  const variables = Object.entries(environment);
  if (variables.length === 0) return command.slice(1).map(quoted).join(' ');
  const sets = variables.map(([name, value]) => `set "${name}=${value}"&& `).join('');
  return `/d /s /c "${sets}${command.map(quoted).join(' ')}"`;
}

/**
 * Quotes an argument, so that the C library of Windows, which splits the command line, gets it back unchanged.
 * @see https://learn.microsoft.com/cpp/c-language/parsing-c-command-line-arguments
 */
function quoted(word: string): string {
  if (word !== '' && !/[\s"]/.test(word)) return word;
  return `"${word.replace(/(\\*)"/g, '$1$1\\"').replace(/(\\+)$/, '$1$1')}"`;
}
