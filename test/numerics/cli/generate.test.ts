import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeEach, expect, it } from 'vitest';
import { createProgram } from '../../../cli/program.ts';
import { fakeContext } from '../../utils/cli-context.ts';
import { temporaryFolder } from '../../utils/folder.ts';
import { makeTinyModel } from '../../utils/models/tiny-model.ts';

let model = '';
let cache = '';
beforeEach(async () => {
  model = await makeTinyModel(join(await temporaryFolder(), 'model'));
  cache = await temporaryFolder();
});

async function answer(...args: string[]): Promise<{ text: string; template: string | null; out: string }> {
  const options = ['--model', model, '--max-tokens', '8', '--engine', 'onnx-cpu', ...args];
  const { context, out } = fakeContext({ environment: { SWARM_CACHE: cache } });
  await createProgram(context).parseAsync(['generate', ...options], { from: 'user' });
  return args.includes('--json')
    ? { ...JSON.parse(out()), out: out() }
    : { text: '', template: null, out: out() };
}

it('puts the prompt into the chat template of the model, unless --raw is given', async () => {
  const raw = await answer('--prompt', 'it was the age', '--json');
  expect(raw.template).toBeNull();
  // The template and the message together make the text of the raw prompt.
  await writeFile(join(model, 'chat_template.jinja'), '{{ bos_token }}it was {{ messages[0].content }}');
  const chat = await answer('--prompt', 'the age', '--json');
  expect(chat.template).not.toBeNull();
  expect(chat.text).toBe(raw.text);
  expect(await answer('--prompt', 'it was the age', '--raw', '--json')).toEqual({
    ...raw,
    out: expect.any(String),
  });
  // A raw prompt is printed before its continuation. A chat prompt is not.
  expect((await answer('--prompt', 'the age')).out).toBe(`${chat.text}\n`);
  expect((await answer('--prompt', 'it was the age', '--raw')).out).toBe(`it was the age${raw.text}\n`);
});
