import { join } from 'node:path';
import type { Logger } from '../common/logger.ts';
import { createLogger, type LogOutput } from '../monitor/log.ts';
import { LogFile } from '../monitor/log-file.ts';
import { parseLevels } from '../monitor/log-levels.ts';
import type { Role } from '../storage/daemon-home.ts';
import type { Context } from './context.ts';

/**
 * A daemon's log: everything from `info` on as JSON in `<home>/logs/<role>.log`; on stderr, warnings for a person at a
 * terminal, and JSON for a service manager's pipe. `--log-level` (or SWARM_LOG_LEVEL) sets both.
 */
export function daemonLog(
  context: Pick<Context, 'stderr' | 'environment' | 'clock'>,
  { home, role, logLevel }: { home: string; role: Role; logLevel: string | undefined },
): Logger {
  const levels = logLevel ?? context.environment.SWARM_LOG_LEVEL ?? '';
  const { stderr } = context;
  const outputs: LogOutput[] = [
    {
      sink: new LogFile(join(home, 'logs', `${role}.log`)),
      levels: parseLevels(levels, 'info'),
      format: 'json',
    },
    {
      sink: stderr,
      levels: parseLevels(levels, 'warn'),
      format: stderr.isTTY ? 'pretty' : 'json',
      color: stderr.color,
    },
  ];
  const log = createLogger({ outputs }, { clock: context.clock });
  // main.ts ends the process; the log is to say why.
  process.on('uncaughtExceptionMonitor', (error) => log.error({ error }, 'uncaught-exception'));
  return log;
}
