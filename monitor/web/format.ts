// A formatter takes much longer to make than to use.
const DATE = new Intl.DateTimeFormat(undefined, { dateStyle: 'short', timeStyle: 'medium' });

/** Formats a time in ms since the epoch, in the browser's time zone and language. */
export function formatDate(at: number): string {
  return DATE.format(at);
}
