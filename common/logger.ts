/**
 * What every part may log through: an action's short name and the facts as a structured object.
 * `error` is for the operator to act on, `warn` for what heals by itself, `info` for milestones, `debug` for the rest.
 */
export interface Logger {
  debug(fields: object, action: string): void;
  info(fields: object, action: string): void;
  warn(fields: object, action: string): void;
  error(fields: object, action: string): void;
  /** A logger whose lines all carry `fields` as well. */
  child(fields: object): Logger;
}
