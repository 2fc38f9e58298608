/** Maximum number of characters of a job's name (`nameSchema`). */
const NAME_CHARACTERS = 64;

/** Returns the name of a copy: the name of the job followed by the lowest free number from 2. */
export function cloneName(name: string, isTaken: (name: string) => boolean): string {
  for (let number = 2; ; number++) {
    const end = `-${number}`;
    const free = `${name.slice(0, NAME_CHARACTERS - end.length)}${end}`;
    if (!isTaken(free)) return free;
  }
}
