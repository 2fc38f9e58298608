/** Formats a time in ms since the epoch, in the browser's time zone and language. */
export function formatDate(at: number): string {
  return new Date(at).toLocaleString();
}
