import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterEach, describe, expect, it } from 'vitest';
import { type Part, TemplateRunner } from '../../../../lora/data/render/template-runner.ts';
import { temporaryFolder } from '../../../utils/folder.ts';

let runner: TemplateRunner | undefined;
afterEach(() => runner?.close());

function start(template: string, options: { deadlineMs?: number; entry?: URL } = {}): TemplateRunner {
  runner = new TemplateRunner({ templates: { default: template }, variables: {}, now: 0 }, options);
  return runner;
}

async function moduleOf(code: string): Promise<URL> {
  const path = join(await temporaryFolder(), 'entry.mjs');
  await writeFile(path, code);
  return pathToFileURL(path);
}

const say = (content: string) => ({ role: 'user', content });
const request = (content: string) => ({ template: 'default', messages: [say(content)] });

/** Loops for much longer than any deadline. */
const ENDLESS = `{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}`;

describe('the template runner', () => {
  it('answers many requests in order', async () => {
    start('{{ messages[0].content }}!');
    const texts = await Promise.all(Array.from({ length: 20 }, (_, n) => runner!.render(request(String(n)))));
    expect(texts.map(({ text }) => text)).toEqual(Array.from({ length: 20 }, (_, n) => `${n}!`));
  });

  it('returns the lengths of the parts of a conversation, and the first part that is not a prefix', async () => {
    start(
      "{% for m in messages %}{{ m.content if messages | length > 1 else '?' }}{% endfor %}{{ '>' if add_generation_prompt }}",
    );
    const messages = ['a', 'b', '>', 'c'].map(say);
    const part = (end: number, addGenerationPrompt = false) => ({ end, addGenerationPrompt });
    const render = (...parts: Part[]) => runner!.render({ template: 'default', messages, parts });
    expect(await render(part(2, true), part(3), part(0))).toEqual({
      text: 'ab>c',
      lengths: [3, 3, 0],
      odd: null,
    });
    expect(await render(part(2), part(1), part(3))).toMatchObject({
      lengths: [2],
      odd: { part: 1, text: '?' },
    });
  });

  it('continues after a conversation that the template refuses', async () => {
    start("{% if messages[0].content == 'bad' %}{{ raise_exception('no') }}{% endif %}ok");
    const bad = runner!.render(request('bad'));
    const good = runner!.render(request('good'));
    await expect(bad).rejects.toMatchObject({ code: 'ROW_TEMPLATE', values: { reason: 'no' } });
    await expect(good).resolves.toMatchObject({ text: 'ok' });
  });

  it('continues after a conversation that cannot be sent', async () => {
    start('{{ messages[0].content }}');
    const bad = runner!.render({ template: 'default', messages: [{ content: 2n ** 60n }] });
    const good = runner!.render(request('good'));
    await expect(bad).rejects.toMatchObject({ code: 'ROW_TEMPLATE' });
    await expect(good).resolves.toMatchObject({ text: 'good' });
  });

  it('stops a template that exceeds the limit of steps', async () => {
    start(ENDLESS);
    await expect(runner!.render(request('a'))).rejects.toMatchObject({
      code: 'TEMPLATE_LIMIT',
      values: { took: expect.stringContaining('steps') },
    });
  });

  it('stops a template that exceeds the deadline, and rejects all later requests', async () => {
    start(ENDLESS, { deadlineMs: 200 });
    const waiting = [runner!.render(request('a')), runner!.render(request('b'))];
    for (const render of waiting) await expect(render).rejects.toMatchObject({ code: 'TEMPLATE_LIMIT' });
    await expect(runner!.render(request('c'))).rejects.toMatchObject({ code: 'TEMPLATE_LIMIT' });
  });

  it('survives a template that exhausts the memory of its process', async () => {
    start(
      `{% set ns = namespace(all=[]) %}{% for a in range(9999) %}
       {% set ns.all = ns.all + [range(9999)] %}{% endfor %}`,
    );
    await expect(runner!.render(request('a'))).rejects.toMatchObject({
      code: 'TEMPLATE_LIMIT',
      values: { took: expect.stringContaining('memory') },
    });
  });

  it('refuses a conversation whose text is too long', async () => {
    start(`{% for a in range(9999) %}{{ '${'x'.repeat(2000)}' }}{% endfor %}`);
    const length = await runner!.render(request('a')).then(
      ({ text }) => text.length,
      (error: unknown) => error,
    );
    expect(length).toMatchObject({ code: 'ROW_TEMPLATE' });
  });

  it('reports an invalid template', async () => {
    start('{% if %}');
    await expect(runner!.render(request('a'))).rejects.toMatchObject({ code: 'TEMPLATE_INVALID' });
  });

  // A template that breaks out of its interpreter can send anything.
  it.each([
    ['null'],
    ['{ type: "failed", id }'],
    [
      '{ type: "failed", id, error: { code: "INTERRUPTED", message: "", values: {}, kind: "failed", next: null } }',
    ],
    ['{ type: "reply", id }'],
    ['{ type: "reply", id, reply: { text: 1, lengths: [], odd: null } }'],
    ['{ type: "reply", id, reply: { text: "a", lengths: [], odd: null } }'],
    ['{ type: "reply", id, reply: { text: "a", lengths: [2], odd: null } }'],
    ['{ type: "reply", id, reply: { text: "a", lengths: [1], odd: { part: 1, text: "" } } }'],
  ])('ends a process that answers %s', async (answer) => {
    const code = `process.on('message', ({ id, method }) =>
      process.send(method === 'compile' ? { type: 'reply', id, reply: null } : ${answer}));`;
    start('', { entry: await moduleOf(code) });
    const [first, second] = [0, 1].map(() =>
      runner!.render({ ...request('a'), parts: [{ end: 1, addGenerationPrompt: false }] }),
    );
    await expect(first).rejects.toMatchObject({ code: 'TEMPLATE_INVALID' });
    await expect(second).rejects.toMatchObject({ code: 'TEMPLATE_INVALID' });
  });

  it('rejects waiting requests when it is closed', async () => {
    start(ENDLESS);
    const waiting = runner!.render(request('a'));
    const rejected = expect(waiting).rejects.toMatchObject({ code: 'TEMPLATE_CLOSED' });
    await runner!.close();
    await rejected;
    await expect(runner!.render(request('b'))).rejects.toMatchObject({ code: 'TEMPLATE_CLOSED' });
  });
});
