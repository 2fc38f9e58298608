import { mkdtemp, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { parseJobFile, readJobFile } from '../../../cli/job-file.ts';

describe('a job file', () => {
  it('has its paths taken from where it lies, and defaults for all the rest', () => {
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

  it('that is wrong is refused with the field, or with line and column', async () => {
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
    await expect(readJobFile('/nowhere/j.yaml')).rejects.toMatchObject({ code: 'JOB_FILE_MISSING' });
  });

  it('says on which line a wrong value stands', () => {
    const text = 'name: m\nbase: b\ndata: { train: t }\nrounds:\n  count: many\n';
    expect(() => parseJobFile(text, '/j.yaml')).toThrow(
      expect.objectContaining({ code: 'JOB_SPEC', values: expect.objectContaining({ line: 5, column: 10 }) }),
    );
  });

  it('may only name a base and data that are there; patterns are left to the coordinator', async () => {
    const dir = await mkdtemp(join(tmpdir(), 'swarm-job-'));
    const read = async (data: string) => {
      await writeFile(join(dir, 'job.yaml'), `name: m\nbase: .\ndata: ${data}\n`);
      return readJobFile(join(dir, 'job.yaml'));
    };
    await expect(read('{ train: job.yaml, heldOut: [none*.txt] }')).resolves.toMatchObject({ base: dir });
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
