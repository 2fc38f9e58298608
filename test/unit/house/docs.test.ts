import { expect, it } from 'vitest';
import { renderedPage } from '../../../scripts/docs.ts';

it('the generated tables of docs/protocol.md are those of the source (node scripts/docs.ts renews them)', async () => {
  const { current, rendered } = await renderedPage();
  expect(current).toBe(rendered);
});
