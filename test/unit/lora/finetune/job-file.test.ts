import { mkdtemp, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { parseJobFile, readJobFile } from '../../../../lora/finetune/job-file.ts';
import { withCode } from '../../../utils/codes.ts';

describe('a job file', () => {
  it('resolves relative paths from its own folder, and fills in all defaults', () => {
    const spec = parseJobFile(
      'name: moby\nbase: ../nano\ndata: { train: texts/*.txt, heldOut: [/abs/a.txt] }\n',
      '/jobs/m.yaml',
    );
    expect(spec.base).toBe('/nano');
    expect(spec.data).toMatchObject({ train: ['/jobs/texts/*.txt'], heldOut: ['/abs/a.txt'] });
    expect(spec.rounds.count).toBeGreaterThan(0);
    const { data } = parseJobFile(
      'name: m\nbase: b\ndata: { train: t, heldOut: 0.05, template: chat.jinja, columns: { messages: dialog } }',
      '/jobs/m.yaml',
    );
    expect(data).toMatchObject({
      heldOut: 0.05,
      format: 'auto',
      columns: { messages: 'dialog' },
      template: '/jobs/chat.jinja',
    });
    const builtIn = parseJobFile('name: m\nbase: b\ndata: { train: t, template: chatml }', '/jobs/m.yaml');
    expect(builtIn.data.template).toBe('chatml');
  });

  it('is refused with the wrong field, or with line and column', async () => {
    const refused = (text: string) => {
      try {
        parseJobFile(text, '/j.yaml');
      } catch (error) {
        return error;
      }
      return null;
    };
    const data = 'base: b\ndata: { train: t }\n';
    expect(refused(`name: m\nruonds: { count: 3 }\n${data}`)).toMatchObject({
      code: 'JOB_SPEC',
      values: { field: 'ruonds' },
    });
    expect(refused(`name: [m\n${data}`)).toMatchObject({
      code: 'JOB_SPEC',
      values: { line: expect.any(Number) },
    });
    expect(refused('')).toMatchObject({ code: 'JOB_SPEC' });
    await expect(readJobFile('/nowhere/j.yaml')).rejects.toMatchObject({
      code: 'JOB_FILE_MISSING',
      kind: 'notFound',
      message: expect.stringMatching(/\/nowhere\/j\.yaml.*no such file/),
    });
    await expect(readJobFile(import.meta.dirname)).rejects.toMatchObject({
      code: 'JOB_FILE_MISSING',
      message: expect.stringContaining('it is a folder'),
    });
  });

  it('is refused when its aliases multiply', () => {
    const list = (name: string, of: string): string => `${name}: &${name} [${Array(10).fill(of)}]\n`;
    const bomb = `${list('a', 'x')}${list('b', '*a')}${list('c', '*b')}${list('d', '*c')}`;
    expect(() => parseJobFile(bomb, '/j.yaml')).toThrow(
      expect.objectContaining({ code: 'JOB_SPEC', kind: 'usage', values: { path: '/j.yaml' } }),
    );
  });

  it('is refused with the line and column of a wrong value', () => {
    const text = 'name: m\nbase: b\ndata: { train: t }\nrounds:\n  count: many\n';
    expect(() => parseJobFile(text, '/j.yaml')).toThrow(withCode('JOB_SPEC', { line: 5, column: 10 }));
  });

  it('is refused when a path in it does not exist; patterns are left to the coordinator', async () => {
    const dir = await mkdtemp(join(tmpdir(), 'swarm-job-'));
    const read = async (data: string) => {
      await writeFile(join(dir, 'job.yaml'), `name: m\nbase: .\ndata: ${data}\n`);
      return readJobFile(join(dir, 'job.yaml'));
    };
    await expect(read('{ train: job.yaml, heldOut: [none*.txt] }')).resolves.toMatchObject({
      spec: { base: dir },
    });
    await expect(read('{ train: none.txt }')).rejects.toMatchObject({
      code: 'JOB_PATH_MISSING',
      values: { field: 'data.train', path: join(dir, 'none.txt') },
    });
    await expect(read('{ train: job.yaml, heldOut: none.txt }')).rejects.toMatchObject({
      code: 'JOB_PATH_MISSING',
      values: { field: 'data.heldOut' },
    });
  });
});
