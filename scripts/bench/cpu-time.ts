/**
 * Processor time of this process so far, all threads and the kernel's part included. For work on one thread it is what
 * the clock shows on an idle machine, or a little more, and it stays so on a busy one.
 */
export function cpuMilliseconds(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}
