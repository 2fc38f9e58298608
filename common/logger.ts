/**
 * A structured logger. A line holds the short name of an action (`peer-unreachable`) and its facts as an object.
 * Levels: `error` needs the operator to act, `warn` recovers without help, `info` marks milestones, `debug` is the rest.
 */
export interface Logger {
  /** Logs a detail. */
  debug(fields: object, action: string): void;
  /** Logs a milestone. */
  info(fields: object, action: string): void;
  /** Logs a problem that solves itself. */
  warn(fields: object, action: string): void;
  /** Logs a problem that needs the operator. */
  error(fields: object, action: string): void;
  /** Returns a logger that adds `fields` to each line. */
  child(fields: object): Logger;
}
