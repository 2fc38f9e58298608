import pretty from 'pino-pretty';

/** Returns a function that formats the fields of a log entry as one line of text with a newline. */
export function prettyFormat(colorize: boolean): (fields: object) => string {
  return pretty.prettyFactory({
    colorize,
    singleLine: true,
    errorLikeObjectKeys: [],
    translateTime: 'SYS:HH:MM:ss',
  });
}
