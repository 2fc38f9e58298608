import { join } from 'node:path';
import { MARK, RESTART_SECONDS, type ServiceId, type ServiceManager, STOP_SECONDS } from './service.ts';
import { textOfXml, xmlText } from './xml.ts';

/** Launch agents of macOS. */
export const launchd: ServiceManager = {
  name: 'launchd',
  encoding: 'utf8',
  file: ({ role }, { folder }) => join(folder, 'Library', 'LaunchAgents', `${label(role)}.plist`),
  text: ({ role, home, command, environment }) => `<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<!-- ${MARK} -->
<plist version="1.0">
<dict>
  <key>Label</key>
  <string>${label(role)}</string>
  <key>ProgramArguments</key>
  <array>
${command.map((word) => `    <string>${xmlText(word)}</string>`).join('\n')}
  </array>
  <key>EnvironmentVariables</key>
  <dict>
${Object.entries(environment)
  .map(([name, value]) => `    <key>${xmlText(name)}</key>\n    <string>${xmlText(value)}</string>\n`)
  .join('')}  </dict>
  <key>RunAtLoad</key>
  <true/>
  <key>KeepAlive</key>
  <dict>
    <key>SuccessfulExit</key>
    <false/>
  </dict>
  <key>ThrottleInterval</key>
  <integer>${RESTART_SECONDS}</integer>
  <key>ExitTimeOut</key>
  <integer>${STOP_SECONDS}</integer>
  <key>ProcessType</key>
  <string>Background</string>
  <key>Umask</key>
  <integer>${0o077}</integer>
  <key>StandardOutPath</key>
  <string>${xmlText(output({ role, home }))}</string>
  <key>StandardErrorPath</key>
  <string>${xmlText(output({ role, home }))}</string>
</dict>
</plist>
`,
  homeIn: (text) => {
    const word = /<string>--home<\/string>\s*<string>([^<]*)<\/string>/.exec(text)?.[1];
    return word === undefined ? null : textOfXml(word);
  },
  start: (service, user) => [
    ['launchctl', 'bootstrap', `gui/${user.id}`, launchd.file(service, user)],
    ['launchctl', 'enable', `gui/${user.id}/${label(service.role)}`],
  ],
  stop: ({ role }, { id }) => [['launchctl', 'bootout', `gui/${id}/${label(role)}`]],
  forget: () => [],
  isAbsent: () => false,
  state: ({ role }, { id }) => ['launchctl', 'print', `gui/${id}/${label(role)}`],
  isRunning: ({ output }) => /^\s*state = running$/m.test(output),
  logs: (service, { lines, follow }) => [
    'tail',
    '-n',
    String(lines),
    ...(follow ? ['-F'] : []),
    output(service),
  ],
  advice: 'the service runs while you are logged in',
};

function label(role: 'coordinator' | 'node'): string {
  return `lora-swarm.${role}`;
}

/** Returns the file to which launchd writes the output of the daemon. */
function output({ role, home }: ServiceId): string {
  return join(home, 'logs', `${role}-service.log`);
}
