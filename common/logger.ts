/**
 * A structured logger. A line holds the short name of an action (`peer-unreachable`) and its facts as an object.
 * Levels: `error` is a problem that the operator must solve, `warn` is a problem that solves itself, `info` is a
 * milestone, and `debug` is everything else.
 */
export interface Logger {
  /** Logs a detail. */
  debug(fields: object, action: string): void;
  /** Logs a milestone. */
  info(fields: object, action: string): void;
  /** Logs a problem that solves itself. */
  warn(fields: object, action: string): void;
  /** Logs a problem that the operator must solve. */
  error(fields: object, action: string): void;
  /** Returns a logger that adds `fields` to each line. */
  child(fields: object): Logger;
}
