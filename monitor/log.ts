import pino from 'pino';
import pretty from 'pino-pretty';
import type { Clock } from '../common/clock.ts';
import { isSwarmError } from '../common/errors.ts';
import type { Logger } from '../common/logger.ts';
import { safeFields } from './log-fields.ts';
import { type Levels, type LogLevel, reaches } from './log-levels.ts';
import { Folding } from './repeated-warnings.ts';

/** Takes whole lines; a stream, a file, or a test's array. */
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
 * A logger that writes each line to every output whose levels let it pass. Strings in fields may come from
 * strangers and are made safe; a warning that repeats within a minute is folded into `repeated` of the next.
 */
export function createLogger(
  options: { outputs: readonly LogOutput[]; fields?: object },
  deps: { clock: Pick<Clock, 'now' | 'monotonic'> },
): Logger {
  const outputs = options.outputs.map((output) => ({
    levels: output.levels,
    logger: pinoFor(output, deps.clock),
  }));
  return new FoldingLogger(outputs, safeFields(options.fields ?? {}), new Folding(deps.clock));
}

/** A logger for tests and for commands that have nothing to say. */
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

class FoldingLogger implements Logger {
  readonly #outputs: readonly Output[];
  readonly #fields: Record<string, unknown>;
  readonly #folding: Folding;

  constructor(outputs: readonly Output[], fields: Record<string, unknown>, folding: Folding) {
    this.#outputs = outputs;
    this.#fields = fields;
    this.#folding = folding;
  }

  debug(fields: object, action: string): void {
    this.#write('debug', fields, action);
  }

  info(fields: object, action: string): void {
    this.#write('info', fields, action);
  }

  warn(fields: object, action: string): void {
    const repeated = this.#folding.admit(foldKey(this.#fields, fields, action));
    if (repeated !== null) this.#write('warn', repeated > 0 ? { ...fields, repeated } : fields, action);
  }

  error(fields: object, action: string): void {
    this.#write('error', fields, action);
  }

  child(fields: object): Logger {
    return new FoldingLogger(this.#outputs, { ...this.#fields, ...safeFields(fields) }, this.#folding);
  }

  #write(level: LogLevel, fields: object, action: string): void {
    const module = this.#fields.module;
    const passing = this.#outputs.filter(({ levels }) =>
      reaches(level, (typeof module === 'string' ? levels.modules[module] : undefined) ?? levels.level),
    );
    if (passing.length === 0) return;
    const line = { ...this.#fields, ...safeFields(fields) };
    for (const { logger } of passing) logger[level](line, action);
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

/** pino-pretty as a plain function on lines: its stream form buffers, and a crash would lose the last words. */
function prettyStream(sink: LineSink, colorize: boolean): pino.DestinationStream {
  const format = pretty.prettyFactory({
    colorize,
    singleLine: true,
    errorLikeObjectKeys: [],
    translateTime: 'SYS:HH:MM:ss',
  });
  return { write: (line) => void sink.write(format(JSON.parse(line))) };
}

/** What makes two warnings the same to a reader: who says it, what, and the error's code; not the figures. */
function foldKey(base: Record<string, unknown>, fields: object, action: string): string {
  const error = 'error' in fields ? fields.error : undefined;
  const code = isSwarmError(error) ? error.code : 'code' in fields ? String(fields.code) : '';
  const peer = 'peer' in fields ? String(fields.peer) : '';
  return `${String(base.module ?? '')}|${action}|${code}|${peer}`;
}
