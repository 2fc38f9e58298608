import { join } from 'node:path';
import type { Logger } from '../../index.ts';
import { createLogger, type LineSink, type LogOutput } from '../../monitor/logs/log.ts';
import { LogFile } from '../../monitor/logs/log-file.ts';
import { parseLevels } from '../../monitor/logs/log-levels.ts';
import type { Role } from '../../storage/daemon-home.ts';
import type { Context } from '../context.ts';
import { WarningLines } from './warning-lines.ts';

interface DaemonLogOptions {
  readonly home: string;
  readonly role: Role;
  readonly logLevel: string | undefined;
  /** Whether the command prints JSON. */
  readonly json: boolean;
  /** Gets the warnings and errors instead of stderr, because the terminal shows a screen. */
  readonly screen?: LineSink;
}

/** Returns the path of a daemon's log file. */
export function logFileOf(home: string, role: Role): string {
  return join(home, 'logs', `${role}.log`);
}

/**
 * Creates the log of a daemon. It writes JSON lines of level `info` and above to `<home>/logs/<role>.log`. It writes
 * warnings and errors to stderr, as plain lines, or as JSON if the command prints JSON. `--log-level` (or
 * SWARM_LOG_LEVEL) sets the levels of both outputs. With this option, stderr gets whole log entries, as text in a
 * terminal and as JSON in a pipe.
 */
export function daemonLog(
  context: Pick<Context, 'stderr' | 'environment' | 'clock'>,
  { home, role, logLevel, json, screen }: DaemonLogOptions,
): Logger {
  const levels = logLevel ?? context.environment.SWARM_LOG_LEVEL ?? '';
  const outputs: LogOutput[] = [
    {
      sink: new LogFile(logFileOf(home, role)),
      levels: parseLevels(levels, 'info'),
      format: 'json',
    },
    screen === undefined && (json || levels !== '')
      ? stderrOutput(context, levels)
      : {
          sink: screen ?? new WarningLines({ role }, context.stderr),
          levels: parseLevels('', 'warn'),
          format: 'json',
        },
  ];
  const log = createLogger({ outputs }, { clock: context.clock });
  // After an uncaught exception main.ts ends the process. This log entry gives the reason.
  process.on('uncaughtExceptionMonitor', (error) => log.error({ error }, 'uncaught-exception'));
  return log;
}

/** Creates a log that writes warnings and errors, or the levels of SWARM_LOG_LEVEL, to stderr. */
export function stderrLog(context: Pick<Context, 'stderr' | 'environment' | 'clock'>): Logger {
  const output = stderrOutput(context, context.environment.SWARM_LOG_LEVEL ?? '');
  return createLogger({ outputs: [output] }, { clock: context.clock });
}

function stderrOutput({ stderr }: Pick<Context, 'stderr'>, levels: string): LogOutput {
  return {
    sink: stderr,
    levels: parseLevels(levels, 'warn'),
    format: stderr.isTTY ? 'pretty' : 'json',
    color: stderr.color,
  };
}
