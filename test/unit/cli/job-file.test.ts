import { describe, expect, it } from 'vitest';
import { parseJobFile, readJobFile } from '../../../cli/job-file.ts';

describe('a job file', () => {
  it('has its paths taken from where it lies, and defaults for all the rest', () => {
    const spec = parseJobFile(
      'name: moby\nbase: ../nano\ndata: { train: texts/*.txt, heldOut: [/abs/a.txt] }\n',
      '/jobs/m.yaml',
    );
    expect(spec.base).toBe('/nano');
    expect(spec.data).toEqual({ train: ['/jobs/texts/*.txt'], heldOut: ['/abs/a.txt'] });
    expect(spec.rounds.count).toBeGreaterThan(0);
    expect(parseJobFile('name: m\nbase: b\ndata: { train: t, heldOut: 0.05 }', '/j.yaml').data.heldOut).toBe(
      0.05,
    );
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
});
