import pino from 'pino';
import { isSwarmError } from '../../common/errors.ts';
import type { Logger } from '../../common/logger.ts';
import type { Clock } from '../../common/time/clock.ts';
import { safeFields } from './log-fields.ts';
import { prettyFormat } from './log-format.ts';
import { type Levels, type LogLevel, levelFor } from './log-levels.ts';
import { RepeatedWarnings } from './repeated-warnings.ts';

/** Receives whole lines. It is a stream, a file, or an array in a test. */
export interface LineSink {
  write(line: string): unknown;
}

export interface LogOutput {
  sink: LineSink;
  levels: Levels;
  /** `pretty` for people at a terminal, `json` for files and pipes. */
  format: 'json' | 'pretty';
  /** Colours in the pretty format. @default false */
  color?: boolean;
}

/**
 * Creates a logger that writes each line to every output whose levels admit it. It replaces control characters in
 * fields, because their strings may come from strangers. It leaves out warnings that repeat within a minute. The next
 * such warning that it writes has the number of warnings left out in the field `repeated`.
 */
export function createLogger(
  options: { outputs: readonly LogOutput[]; fields?: object },
  deps: { clock: Pick<Clock, 'now' | 'monotonic'> },
): Logger {
  const outputs = options.outputs.map((output) => ({
    levels: output.levels,
    logger: pinoFor(output, deps.clock),
  }));
  return new OutputsLogger(outputs, safeFields(options.fields ?? {}), new RepeatedWarnings(deps.clock));
}

/** A logger that writes nothing. */
export const silentLogger: Logger = {
  debug: () => {},
  info: () => {},
  warn: () => {},
  error: () => {},
  child: () => silentLogger,
};

interface Output {
  levels: Levels;
  logger: pino.Logger;
}

/**
 * Writes each line to all outputs, after `safeFields` has made its fields safe, and leaves out repeated warnings. The
 * library pino decides which levels an output gets.
 */
class OutputsLogger implements Logger {
  readonly #outputs: readonly Output[];
  readonly #fields: Record<string, unknown>;
  readonly #repeated: RepeatedWarnings;

  constructor(outputs: readonly Output[], fields: Record<string, unknown>, repeated: RepeatedWarnings) {
    this.#outputs = outputs.map(({ levels, logger }) => ({
      levels,
      logger: logger.child({}, { level: levelFor(levels, fields) }),
    }));
    this.#fields = fields;
    this.#repeated = repeated;
  }

  debug(fields: object, action: string): void {
    this.#write('debug', fields, action);
  }

  info(fields: object, action: string): void {
    this.#write('info', fields, action);
  }

  warn(fields: object, action: string): void {
    const repeated = this.#repeated.admit(warningKey(this.#fields, fields, action));
    if (repeated !== null) this.#write('warn', repeated > 0 ? { ...fields, repeated } : fields, action);
  }

  error(fields: object, action: string): void {
    this.#write('error', fields, action);
  }

  child(fields: object): Logger {
    return new OutputsLogger(this.#outputs, { ...this.#fields, ...safeFields(fields) }, this.#repeated);
  }

  #write(level: LogLevel, fields: object, action: string): void {
    if (!this.#outputs.some(({ logger }) => logger.isLevelEnabled(level))) return;
    const line = { ...this.#fields, ...safeFields(fields) };
    for (const { logger } of this.#outputs) logger[level](line, action);
  }
}

function pinoFor({ sink, format, color = false }: LogOutput, clock: Pick<Clock, 'now'>): pino.Logger {
  const destination: pino.DestinationStream =
    format === 'json' ? { write: (line) => void sink.write(line) } : prettyStream(sink, color);
  return pino(
    {
      level: 'debug',
      base: null,
      timestamp: () => `,"time":"${new Date(clock.now()).toISOString()}"`,
      formatters: { level: (label) => ({ level: label }) },
    },
    destination,
  );
}

/**
 * Formats lines with pino-pretty's function. The stream of pino-pretty would buffer lines, and a crash would lose the
 * last ones.
 */
function prettyStream(sink: LineSink, colorize: boolean): pino.DestinationStream {
  const format = prettyFormat(colorize);
  return { write: (line) => void sink.write(format(JSON.parse(line))) };
}

/** Returns the key of a warning. Warnings with equal module, action, error code and peer have equal keys. */
function warningKey(base: Record<string, unknown>, fields: object, action: string): string {
  const error = 'error' in fields ? fields.error : undefined;
  const code = isSwarmError(error) ? error.code : 'code' in fields ? String(fields.code) : '';
  const peer = 'peer' in fields ? String(fields.peer) : '';
  return `${String(base.module ?? '')}|${action}|${code}|${peer}`;
}
