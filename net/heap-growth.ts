import { setFlagsFromString } from 'node:v8';

/**
 * Percentage by which V8's heap may grow beyond its live objects before V8 marks the whole heap. V8's own choice is up to
 * 300 %.
 */
const GROWTH_PERCENT = 50;

/**
 * Keeps the memory of a process near the size of its live objects. Peers that connect and call cause much short-lived
 * garbage, which V8 lets pile up. In a test, 512 peers made 4,096 calls at once, again and again. The live objects took
 * 60 MB, but the process grew by 50 MB with each burst of calls, to 430 MB when the test ended. With this setting the
 * process stays at 300 MB. The test then takes about a tenth more processor time (docs/decisions/042-crowding.md).
 *
 * The setting affects the whole process. This function may be called at any time.
 */
export function limitHeapGrowth(): void {
  setFlagsFromString(`--heap-growing-percent=${GROWTH_PERCENT}`);
}
