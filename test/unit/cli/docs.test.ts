import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { cliPage, renderCliPage } from '../../../scripts/cli-docs.ts';

it('docs/cli.md tells the commands as they are (else: node scripts/cli-docs.ts)', () => {
  expect(readFileSync(cliPage, 'utf8')).toBe(renderCliPage());
});
