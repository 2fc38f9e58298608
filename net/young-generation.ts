import { PerformanceObserver } from 'node:perf_hooks';
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

let observer: PerformanceObserver | undefined;
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
  if (observer !== undefined) return;
  const [major = 0, minor = 0] = process.versions.v8.split('.').map(Number);
  if (major > SINCE_V8[0] || (major === SINCE_V8[0] && minor >= SINCE_V8[1])) {
    setFlagsFromString(`--scavenger-max-new-space-capacity-mb=${BUFFERS_MB}`);
  }
  limitGrowth();
  observer = new PerformanceObserver(limitGrowth);
  observer.observe({ entryTypes: ['gc'] });
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
