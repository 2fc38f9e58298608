const MONTHS = 'January February March April May June July August September October November December'.split(
  ' ',
);
const DAYS = 'Sunday Monday Tuesday Wednesday Thursday Friday Saturday'.split(' ');

const two = (value: number): string => String(value).padStart(2, '0');

const FIELDS: Readonly<Record<string, (date: Date) => string>> = {
  Y: (date) => String(date.getUTCFullYear()),
  y: (date) => two(date.getUTCFullYear() % 100),
  m: (date) => two(date.getUTCMonth() + 1),
  d: (date) => two(date.getUTCDate()),
  B: (date) => MONTHS[date.getUTCMonth()]!,
  b: (date) => MONTHS[date.getUTCMonth()]!.slice(0, 3),
  A: (date) => DAYS[date.getUTCDay()]!,
  a: (date) => DAYS[date.getUTCDay()]!.slice(0, 3),
  H: (date) => two(date.getUTCHours()),
  I: (date) => two(date.getUTCHours() % 12 || 12),
  p: (date) => (date.getUTCHours() < 12 ? 'AM' : 'PM'),
  M: (date) => two(date.getUTCMinutes()),
  S: (date) => two(date.getUTCSeconds()),
  j: (date) => String(dayOfYear(date)).padStart(3, '0'),
  Z: () => 'UTC',
  z: () => '+0000',
  '%': () => '%',
};

/**
 * Formats a date like Python's `strftime`, in UTC and English, so that the date in a template does not depend on the
 * machine. Supports the fields that chat templates use. `%-d` omits leading zeros. Unknown fields stay unchanged.
 */
export function strftime(date: Date, format: string): string {
  return format.replace(/%(-?)(.)/g, (whole, bare: string, name: string) => {
    const text = FIELDS[name]?.(date);
    if (text === undefined) return whole;
    return bare === '-' ? text.replace(/^0+(?=\d)/, '') : text;
  });
}

function dayOfYear(date: Date): number {
  return (
    (Date.UTC(date.getUTCFullYear(), date.getUTCMonth(), date.getUTCDate()) -
      Date.UTC(date.getUTCFullYear(), 0, 0)) /
    86_400_000
  );
}
