import { expect, it } from 'vitest';
import { renderedPage } from '../../../scripts/docs.ts';

it('the generated tables of docs/protocol.md match the source (update them with node scripts/docs.ts)', async () => {
  const { current, rendered } = await renderedPage();
  expect(current).toBe(rendered);
});
