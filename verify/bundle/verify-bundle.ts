import { type VerifyOptions, type VerifyReport, verifyRecord } from '../verify-job.ts';
import { openBundle } from './open.ts';

/** Verifies the job in a bundle file. @throws SwarmError BUNDLE_MALFORMED, and the errors of `verifyRecord` */
export async function verifyBundle(file: string, options: VerifyOptions = {}): Promise<VerifyReport> {
  const bundle = await openBundle(file);
  try {
    return await verifyRecord(bundle, options);
  } finally {
    await bundle.close();
  }
}
