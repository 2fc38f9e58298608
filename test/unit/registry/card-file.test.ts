import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { writeCard } from '../../../registry/export/card-file.ts';
import { temporaryFolder } from '../../utils/folder.ts';

const CARD = '---\ntags:\n  - lora\n  - lora-swarm\n---\n';

it('replaces only a model card of lora-swarm, and warns instead of failing', async () => {
  const folder = await temporaryFolder();
  const path = join(folder, 'README.md');
  const warnings: string[] = [];
  const write = (card: string, output = folder): Promise<void> =>
    writeCard(output, card, (text) => warnings.push(text));
  await write(CARD);
  await write(`${CARD}new`);
  expect(await readFile(path, 'utf8')).toBe(`${CARD}new`);
  await writeFile(path, 'notes');
  await write(CARD);
  expect(await readFile(path, 'utf8')).toBe('notes');
  expect(warnings).toEqual([expect.stringContaining(path)]);
  const unusable = join(folder, 'unusable', 'README.md');
  await mkdir(unusable, { recursive: true });
  await write(CARD, join(folder, 'unusable'));
  expect(warnings).toEqual([expect.any(String), expect.stringMatching(new RegExp(`${unusable}.*EISDIR`))]);
});
