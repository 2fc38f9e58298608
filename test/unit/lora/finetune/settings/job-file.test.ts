import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeEach, describe, expect, it } from 'vitest';
import { readJobFile } from '../../../../../lora/finetune/settings/job-file.ts';
import { temporaryFolder } from '../../../../utils/folder.ts';

let root: string;
let dir: string;
beforeEach(async () => {
  root = await temporaryFolder();
  dir = join(root, 'jobs');
  await mkdir(dir);
});

/** Writes a job file and reads it. */
async function read(text: string) {
  await writeFile(join(dir, 'job.yaml'), text);
  return readJobFile(join(dir, 'job.yaml'));
}

describe('a job file', () => {
  it('resolves relative paths from its own folder, and fills in all defaults', async () => {
    await mkdir(join(root, 'nano'));
    await writeFile(join(root, 'a.txt'), '');
    await writeFile(join(dir, 'chat.jinja'), '');
    const held = join(root, 'a.txt');
    const data = `{ train: texts/*.txt, heldOut: [${JSON.stringify(held)}] }`;
    const { spec } = await read(`name: moby\nbase: ../nano\ndata: ${data}\n`);
    expect(spec.base).toBe(join(root, 'nano'));
    expect(spec.data).toMatchObject({ train: [join(dir, 'texts/*.txt')], heldOut: [held] });
    expect(spec.rounds.count).toBeGreaterThan(0);
    const share = await read(
      'name: m\nbase: .\ndata: { train: ../a.txt, heldOut: 0.05, template: chat.jinja, columns: { messages: dialog } }',
    );
    expect(share.spec.data).toMatchObject({
      heldOut: 0.05,
      format: 'auto',
      columns: { messages: 'dialog' },
      template: join(dir, 'chat.jinja'),
    });
    const builtIn = await read('name: m\nbase: .\ndata: { train: ../a.txt, template: chatml }');
    expect(builtIn.spec.data.template).toBe('chatml');
  });

  it('names the adapter to start from by a path, or as a version in the registry', async () => {
    await mkdir(join(dir, 'adapter'));
    const start = async (text: string) =>
      (await read(`name: m\nbase: .\nstart: ${text}\ndata: { train: ./*.txt }`)).spec.start;
    expect(await start('./adapter')).toBe(join(dir, 'adapter'));
    expect(await start('demo:best')).toBe('demo:best');
    await expect(start('./missing')).rejects.toMatchObject({
      code: 'JOB_PATH_MISSING',
      values: { field: 'start' },
    });
  });

  it('is refused with the wrong field, or with line and column', async () => {
    const data = 'base: b\ndata: { train: t }\n';
    await expect(read(`name: m\nruonds: { count: 3 }\n${data}`)).rejects.toMatchObject({
      code: 'JOB_SPEC',
      values: { field: 'ruonds' },
    });
    await expect(read(`name: [m\n${data}`)).rejects.toMatchObject({
      code: 'JOB_SPEC',
      values: { line: expect.any(Number) },
    });
    await expect(read('')).rejects.toMatchObject({ code: 'JOB_SPEC' });
    await expect(readJobFile('/nowhere/j.yaml')).rejects.toMatchObject({
      code: 'JOB_FILE_MISSING',
      kind: 'notFound',
      values: { path: '/nowhere/j.yaml' },
    });
    await expect(readJobFile(import.meta.dirname)).rejects.toMatchObject({
      code: 'JOB_FILE_MISSING',
      values: { path: import.meta.dirname },
    });
  });

  it('is refused when its aliases multiply', async () => {
    const list = (name: string, of: string): string => `${name}: &${name} [${Array(10).fill(of)}]\n`;
    const bomb = `${list('a', 'x')}${list('b', '*a')}${list('c', '*b')}${list('d', '*c')}`;
    await expect(read(bomb)).rejects.toMatchObject({
      code: 'JOB_SPEC',
      kind: 'usage',
      values: { path: join(dir, 'job.yaml') },
    });
  });

  it('is refused with the line and column of a wrong value', async () => {
    await expect(
      read('name: m\nbase: b\ndata: { train: t }\nrounds:\n  count: many\n'),
    ).rejects.toMatchObject({ code: 'JOB_SPEC', values: { line: 5, column: 10 } });
  });

  it('is refused when a path in it does not exist; patterns are left to the coordinator', async () => {
    const withData = (data: string) => read(`name: m\nbase: .\ndata: ${data}\n`);
    await expect(withData('{ train: job.yaml, heldOut: [none*.txt] }')).resolves.toMatchObject({
      spec: { base: dir },
    });
    await expect(withData('{ train: none.txt }')).rejects.toMatchObject({
      code: 'JOB_PATH_MISSING',
      values: { field: 'data.train', path: join(dir, 'none.txt') },
    });
    await expect(withData('{ train: job.yaml, heldOut: none.txt }')).rejects.toMatchObject({
      code: 'JOB_PATH_MISSING',
      values: { field: 'data.heldOut' },
    });
  });
});
