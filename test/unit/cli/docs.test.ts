import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { cliPage, renderCliPage } from '../../../scripts/cli-docs.ts';

it('docs/cli.md matches the commands (update it with node scripts/cli-docs.ts)', () => {
  expect(readFileSync(cliPage, 'utf8')).toBe(renderCliPage());
});
