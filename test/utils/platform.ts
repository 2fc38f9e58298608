import { onTestFinished } from 'vitest';

/** Makes `process.platform` another system's until the test ends. What the system itself does stays the same. */
export function pretendPlatform(platform: NodeJS.Platform): void {
  const own = Object.getOwnPropertyDescriptor(process, 'platform')!;
  Object.defineProperty(process, 'platform', { ...own, value: platform });
  onTestFinished(() => void Object.defineProperty(process, 'platform', own));
}
