import { setFlagsFromString } from 'node:v8';

/** Size of V8's young generation in MB (default 32). A full one is collected. */
const YOUNG_GENERATION_MB = 4;
/** First version of V8 (Node 24) with the flag; earlier ones print an error. */
const SINCE_V8 = [13, 6] as const;

/**
 * Makes V8 free dead network buffers with cheap collections of the young generation. Buffers lie outside V8's heap, so the
 * young generation fills slowly while they fill memory, and by default V8 marks the whole heap every 20 MB received. A
 * transfer of 256 MB took 2.0 s of processor time by default and takes 1.3 s with the limit
 * (docs/decisions/040-network.md).
 *
 * Affects the whole process. May be called at any time.
 */
export function limitYoungGeneration(): void {
  const [major = 0, minor = 0] = process.versions.v8.split('.').map(Number);
  if (major < SINCE_V8[0] || (major === SINCE_V8[0] && minor < SINCE_V8[1])) return;
  setFlagsFromString(`--scavenger-max-new-space-capacity-mb=${YOUNG_GENERATION_MB}`);
}
