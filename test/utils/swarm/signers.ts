import { type Signer, signerFromSeed } from '../../../protocol/signing.ts';

/** A signer whose key follows from `number` (0 to 255). */
export function signerOf(number: number): Signer {
  return signerFromSeed(new Uint8Array(32).fill(number));
}
