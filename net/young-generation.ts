import { setFlagsFromString } from 'node:v8';

/** Megabytes of young objects after which V8 looks for garbage among them, here instead of its 32. */
const YOUNG_SPACE_MB = 4;
/** V8 knows the flag from here on (Node 24), and complains about flags that it does not know. */
const SINCE_V8 = [13, 6] as const;

/**
 * Makes V8 clear away dead buffers by cheap collections of young objects. By default it does not get to those while
 * much arrives over the network: buffers lie outside of its heap, so that the heap fills slowly while they fill the
 * memory, and then it marks everything there is, every 20 MB. A transfer of 256 MB took 2.0 s of processor time with
 * that and takes 1.3 s without (docs/decisions/040-network.md).
 *
 * Concerns the whole process, and works at any time.
 */
export function limitYoungGeneration(): void {
  const [major = 0, minor = 0] = process.versions.v8.split('.').map(Number);
  if (major < SINCE_V8[0] || (major === SINCE_V8[0] && minor < SINCE_V8[1])) return;
  setFlagsFromString(`--scavenger-max-new-space-capacity-mb=${YOUNG_SPACE_MB}`);
}
