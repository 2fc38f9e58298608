import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { stepsOf, wordsOf } from '../../../scripts/doc-commands/page.ts';
import { PAGES } from '../../../scripts/doc-commands/pages.ts';
import { firstDifference, shapeOf } from '../../../scripts/doc-commands/shape.ts';

const ROOT = join(import.meta.dirname, '../../..');

describe('the commands of a page', () => {
  const page = [
    '```sh',
    'npx lora-swarm doctor     # the machine',
    '```',
    '```',
    '$ lora-swarm train --model m \\',
    '    --data d',
    '…',
    'held-out loss 4.8',
    '$ cat a.jsonl',
    '{}',
    '```',
    '```yaml',
    '# job.yaml',
    'name: a',
    '```',
    '```',
    'only output',
    '```',
    '',
  ].join('\n');

  it('come with their lines, their output, and the files that they need', () => {
    expect(stepsOf(page)).toEqual([
      { line: 2, command: 'npx lora-swarm doctor', output: [] },
      { line: 5, command: 'lora-swarm train --model m --data d', output: ['…', 'held-out loss 4.8'] },
      { line: 9, file: 'a.jsonl', content: '{}\n' },
      { line: 13, file: 'job.yaml', content: '# job.yaml\nname: a\n' },
    ]);
    expect(wordsOf('generate --prompt "Call me" --x')).toEqual(['generate', '--prompt', 'Call me', '--x']);
  });

  it('are found in each page that the script runs, and its patterns match them', () => {
    for (const [path, { skipped = [], edits = [], waits = [] }] of Object.entries(PAGES)) {
      expect(existsSync(join(ROOT, path)), path).toBe(true);
      const commands = stepsOf(readFileSync(join(ROOT, path), 'utf8')).flatMap((step) =>
        'command' in step ? [step.command] : [],
      );
      expect(commands.length, path).toBeGreaterThan(0);
      for (const [pattern] of [...skipped, ...edits, ...waits]) {
        expect(
          commands.some((command) => pattern.test(command)),
          `${path}: ${pattern}`,
        ).toBe(true);
      }
    }
  });
});

describe('the comparison with real output', () => {
  const printed = (...lines: string[]) => lines.map((text) => ({ text, isNote: false }));
  const note = { text: '50 %', isNote: true };

  it('ignores figures, digests, times, the widths of columns, and notes', () => {
    const shown = [
      'version  tags  loss',
      'moby:v1  -     4.85  935c4274619c',
      '60 steps in 47 s, −0.5 (12 kB)',
    ];
    const [head, ...rest] = printed(
      'version  tags    loss',
      'moby:v1  -         5  ffff00001111',
      '9 steps in 1 min 2 s, −1.25 (3 MB)',
    );
    expect(firstDifference(shown, [note, head!, note, ...rest, note])).toBeNull();
    expect(firstDifference(['50 %'], [note])).toBeNull();
    expect(shapeOf('next: npx lora-swarm doctor')).toBe('next: lora-swarm doctor');
  });

  it('finds other words, missing lines and further lines', () => {
    expect(firstDifference(['loss 1'], printed('losses 1'))).toEqual({ shown: 'loss 1', real: 'losses 1' });
    expect(firstDifference(['a', 'b'], [...printed('a'), note])).toEqual({ shown: 'b', real: null });
    expect(firstDifference(['a'], [...printed('a'), note, ...printed('b')])).toEqual({
      shown: null,
      real: 'b',
    });
  });

  it('takes "…" for any text, and a line of it for any lines', () => {
    const real = printed('x', 'y', 'in /tmp/out, 7 s {"id": 3, "text":"a"', 'z');
    expect(firstDifference(['…', 'in …/out, 5 s {… "text":"b …', '…'], real)).toBeNull();
    expect(firstDifference(['…', 'b'], printed('a', 'c'))).toEqual({ shown: 'b', real: 'a' });
    expect(firstDifference(['a', 'c'], printed('a', 'b', 'c'))).toEqual({ shown: 'c', real: 'b' });
  });
});
