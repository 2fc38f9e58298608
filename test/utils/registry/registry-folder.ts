import { rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** The registry of the commands that tests run, so that no test writes to the registry of the person who runs them. */
export const TEST_REGISTRY = join(tmpdir(), `swarm-test-registry-${process.pid}`);

/** Deletes the registry after all tests. vitest calls this function before the tests and its result afterwards. */
export default function setup(): () => void {
  return () => rmSync(TEST_REGISTRY, { recursive: true, force: true });
}
