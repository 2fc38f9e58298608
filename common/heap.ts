/** V8's settings of the heap, with which the memory of a process stays near the size of its live objects. */

import { constants, PerformanceObserver } from 'node:perf_hooks';
import { getHeapSpaceStatistics, setFlagsFromString } from 'node:v8';

/** Size of the network buffers, in MB, at which V8 collects the young generation. V8's default is 32. */
const BUFFERS_MB = 4;
/**
 * First version of V8 (Node 24) that has the flag for BUFFERS_MB. Earlier versions would print an error, so
 * they do not get the flag.
 */
const SINCE_V8 = [13, 6] as const;
/**
 * Size of the young generation, in bytes, above which it may not grow. V8's own limit is 128 MiB. A smaller young
 * generation would be collected so often that many short-lived objects would move to the old generation.
 */
const LARGEST_BYTES = 16 * 2 ** 20;

let isYoungLimited = false;
/** Factor by which V8 currently may grow the young generation in one step. */
let factor = 2;

/**
 * Keeps V8's young generation small.
 *
 * First, V8 frees dead network buffers with cheap collections of the young generation. Buffers lie outside V8's heap,
 * so they fill the memory long before the young generation is full. By default, V8 therefore marks the whole heap every
 * 20 MB received. A transfer of 256 MB takes 2.0 s of processor time with the default size, and 1.3 s with this size
 * (docs/decisions/040-network.md).
 *
 * Second, the young generation stays small itself. V8 doubles its size while many objects survive, up to 128 MiB. V8
 * then fills the whole young generation before each collection, so the process never gives this memory back. When a
 * coordinator was flooded with gossip, a third of its additional memory was young generation
 * (docs/decisions/042-crowding.md).
 *
 * The settings affect the whole process. This function may be called at any time.
 */
export function limitYoungGeneration(): void {
  if (isYoungLimited) return;
  isYoungLimited = true;
  const [major = 0, minor = 0] = process.versions.v8.split('.').map(Number);
  if (major > SINCE_V8[0] || (major === SINCE_V8[0] && minor >= SINCE_V8[1])) {
    setFlagsFromString(`--scavenger-max-new-space-capacity-mb=${BUFFERS_MB}`);
  }
  limitGrowth();
  new PerformanceObserver(limitGrowth).observe({ entryTypes: ['gc'] });
}

/**
 * Sets the factor by which V8 multiplies the size of the young generation when it grows. The factor is 2 below
 * LARGEST_BYTES. Above, it is 1, which prevents further growth.
 */
function limitGrowth(): void {
  const { space_size: bytes } = getHeapSpaceStatistics().find(
    ({ space_name }) => space_name === 'new_space',
  )!;
  const next = bytes < LARGEST_BYTES ? 2 : 1;
  if (next === factor) return;
  factor = next;
  setFlagsFromString(`--semi-space-growth-factor=${factor}`);
}

/**
 * Percentage by which V8's heap may grow beyond its live objects before V8 collects the whole heap. V8's own choice is
 * up to 300 %.
 */
const GROWTH_PERCENT = 50;
/**
 * Number of bytes by which the heap may always grow before V8 collects it. With half of this number, V8 collects a
 * small heap so often that a transfer of blobs takes twice the processor time.
 */
const MIN_GROWTH_BYTES = 32 * 2 ** 20;
/** Size of the live objects of a host that has just started, in bytes. */
const FIRST_LIVE_BYTES = 25 * 2 ** 20;

let isGrowthLimited = false;

/**
 * Makes V8 collect garbage earlier, so that the memory of a process stays near the size of its live objects.
 * Connections and calls of peers leave short-lived garbage, and V8 lets this garbage pile up. In a test, 512 peers
 * repeatedly made 4,096 calls at once. The live objects took 60 MB, but the process grew by 50 MB with each burst of
 * calls, to 430 MB when the test ended. With earlier collections, the process stays at about 320 MB
 * (docs/decisions/042-crowding.md).
 *
 * The setting affects the whole process. This function may be called at any time.
 */
export function limitHeapGrowth(): void {
  if (isGrowthLimited) return;
  isGrowthLimited = true;
  allowGrowth(FIRST_LIVE_BYTES);
  const observer = new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) {
      const { kind } = (entry as unknown as { detail: { kind: number } }).detail;
      // After a collection of the whole heap, few dead objects are left, so the used part is about the size
      // of the live objects.
      if (kind === constants.NODE_PERFORMANCE_GC_MAJOR) allowGrowth(process.memoryUsage().heapUsed);
    }
  });
  observer.observe({ entryTypes: ['gc'] });
}

/** Sets the growth that V8 allows. V8 reads the flag at the end of each collection of the whole heap. */
function allowGrowth(liveBytes: number): void {
  setFlagsFromString(`--heap-growing-percent=${growthPercent(liveBytes)}`);
}

/**
 * Returns the percentage by which a heap may grow before its garbage is collected.
 * @param liveBytes size of the live objects of the heap
 */
export function growthPercent(liveBytes: number): number {
  return Math.max(GROWTH_PERCENT, Math.ceil((100 * MIN_GROWTH_BYTES) / liveBytes));
}
