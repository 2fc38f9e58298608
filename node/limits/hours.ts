const RANGE = /^([01]\d|2[0-3]):([0-5]\d)-(([01]\d|2[0-3]):([0-5]\d)|24:00)$/;
/** Stands for the whole day. */
const ALL = 'all';
const DAY = 24 * 60;

/** Returns whether a text names hours of the day: "all", or ranges such as "22:00-07:00" or "12:00-13:00,20:00-23:30". */
export function areHours(text: string): boolean {
  return text === ALL || text.split(',').every((range) => RANGE.test(range));
}

/**
 * Returns the milliseconds until the hours begin; 0 during the hours. Hours are in local time, and a range may
 * pass midnight. A range whose ends are equal is the whole day.
 * @param hours text that {@link areHours} accepts
 * @param now local time
 */
export function untilHours(hours: string, now: Date): number {
  if (hours === ALL) return 0;
  const minute = now.getHours() * 60 + now.getMinutes();
  const waits = hours.split(',').map((range) => {
    const [from = 0, to = 0] = range.split('-').map((time) => {
      const [hour = 0, minutes = 0] = time.split(':').map(Number);
      return hour * 60 + minutes;
    });
    const length = (to - from + DAY) % DAY || DAY;
    const since = (minute - from + DAY) % DAY;
    return since < length ? 0 : DAY - since;
  });
  const wait = Math.min(...waits);
  return wait === 0 ? 0 : wait * 60_000 - now.getSeconds() * 1000 - now.getMilliseconds();
}
