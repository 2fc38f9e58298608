import { constants, PerformanceObserver } from 'node:perf_hooks';
import { setFlagsFromString } from 'node:v8';

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

let observer: PerformanceObserver | undefined;

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
  if (observer !== undefined) return;
  allowGrowth(FIRST_LIVE_BYTES);
  observer = new PerformanceObserver((list) => {
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
