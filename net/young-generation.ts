import { setFlagsFromString } from 'node:v8';

/** Size of V8's young generation in MB (default 32). V8 collects it when it is full. */
const YOUNG_GENERATION_MB = 4;
/** First version of V8 (Node 24) with the flag that this file sets. Earlier versions would print an error. */
const SINCE_V8 = [13, 6] as const;

/**
 * Makes V8 free dead network buffers with cheap collections of the young generation. Buffers lie outside V8's heap, so
 * they fill the memory long before the young generation is full. By default, V8 therefore marks the whole heap every 20
 * MB received. A transfer of 256 MB takes 2.0 s of processor time with the default size, and 1.3 s with this size
 * (docs/decisions/040-network.md).
 *
 * The setting affects the whole process. This function may be called at any time.
 */
export function limitYoungGeneration(): void {
  const [major = 0, minor = 0] = process.versions.v8.split('.').map(Number);
  if (major < SINCE_V8[0] || (major === SINCE_V8[0] && minor < SINCE_V8[1])) return;
  setFlagsFromString(`--scavenger-max-new-space-capacity-mb=${YOUNG_GENERATION_MB}`);
}
