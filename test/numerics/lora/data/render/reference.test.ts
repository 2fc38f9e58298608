/** Compares ids and masks with transformers and TRL. scripts/reference/make_chat_fixtures.py made the expected values. */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Example, Message } from '../../../../../lora/data/examples.ts';
import { openRenderer, type Renderer, renderExample } from '../../../../../lora/data/render/renderer.ts';
import { loadTokenizer } from '../../../../../lora/data/tokenizer.ts';

interface Expected {
  conversations: { messages: Message[]; tools: unknown[] | null }[];
  tokenizers: Record<
    string,
    {
      templates: Record<string, ({ text: string; ids: number[]; mask: number[] } | { refused: string })[]>;
      trl: Record<
        'pairs' | 'texts' | 'chats',
        { rows: Record<string, unknown>[]; expected: { ids: number[]; labels: number[] }[] }
      >;
    }
  >;
}

const folder = fileURLToPath(new URL('../../../../fixtures/chat/', import.meta.url));
const { conversations, tokenizers } = JSON.parse(readFileSync(`${folder}expected.json`, 'utf8')) as Expected;
const origin = { file: 'expected.json', row: 1 };

async function open(tokenizer: string, template: string): Promise<Renderer> {
  const dir = `${folder}${tokenizer}`;
  return openRenderer(
    { dir, template: `${folder}templates/${template}.jinja`, now: 0 },
    { tokenizer: await loadTokenizer(dir) },
  );
}

for (const [name, { templates, trl }] of Object.entries(tokenizers)) {
  describe(`conversations with a ${name} tokenizer`, () => {
    for (const [template, cases] of Object.entries(templates)) {
      it(`have the ids and masks of transformers with a template in the style of ${template}`, async () => {
        const renderer = await open(name, template);
        for (const [i, expected] of cases.entries()) {
          const { messages, tools } = conversations[i]!;
          const example: Example = { kind: 'messages', origin, messages, ...(tools && { tools }) };
          if ('refused' in expected) {
            await expect(renderExample(example, renderer)).rejects.toMatchObject({ code: 'ROW_TEMPLATE' });
            continue;
          }
          const rendered = await renderExample(example, renderer);
          expect(rendered.ids, `ids of conversation ${i}`).toEqual(expected.ids);
          expect([...rendered.trained], `mask of conversation ${i}`).toEqual(expected.mask);
        }
        await renderer.close();
      });
    }
  });

  describe(`data sets with a ${name} tokenizer`, () => {
    let renderer: Renderer;
    beforeAll(async () => {
      renderer = await open(name, 'chatml');
    });
    afterAll(() => renderer.close());

    const examples: Record<keyof typeof trl, (row: Record<string, unknown>) => Example> = {
      pairs: (row) => ({ kind: 'completion', origin, ...(row as { prompt: string; completion: string }) }),
      texts: (row) => ({ kind: 'text', origin, text: row.text as string }),
      chats: (row) => ({
        kind: 'completion',
        origin,
        ...(row as { prompt: Message[]; completion: Message[] }),
      }),
    };
    for (const [kind, { rows, expected }] of Object.entries(trl)) {
      it(`of ${kind} have the ids and labels of TRL`, async () => {
        for (const [i, row] of rows.entries()) {
          const { ids, trained } = await renderExample(examples[kind as keyof typeof trl](row), renderer);
          expect(ids, `ids of row ${i}`).toEqual(expected[i]!.ids);
          const labels = ids.map((id, t) => (trained[t] ? id : -100));
          expect(labels, `labels of row ${i}`).toEqual(expected[i]!.labels);
        }
      });
    }
  });
}
