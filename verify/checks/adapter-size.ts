import { MAX_ADAPTER_HEADER_BYTES } from '../../lora/adapter/codec.ts';
import type { Manifest } from '../../protocol/job/manifest.ts';

/** Bytes of a safetensors file before its header. */
const LENGTH_BYTES = 8;
/** Bytes of a residual before its values: a checksum and the digest of a layout. */
export const RESIDUAL_OVERHEAD_BYTES = 64;

/** Returns the largest size that an adapter of a job can have, in bytes: a header, and the parameters in float32. */
export function largestAdapter({ adapter }: Pick<Manifest, 'adapter'>): number {
  return LENGTH_BYTES + MAX_ADAPTER_HEADER_BYTES + adapter.parameters * Float32Array.BYTES_PER_ELEMENT;
}
