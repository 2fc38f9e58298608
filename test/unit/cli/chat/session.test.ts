import { describe, expect, it } from 'vitest';
import { openLocalChat } from '../../../../cli/chat/local.ts';
import { openRemoteChat } from '../../../../cli/chat/remote.ts';
import { type ChatPartner, runChat } from '../../../../cli/chat/session.ts';
import type { ChatMessage } from '../../../../serve/chat-prompt.ts';
import { serveError } from '../../../../serve/errors.ts';
import { fakeContext } from '../../../utils/cli-context.ts';
import { fakeGenerator } from '../../../utils/models/fake-generator.ts';
import { testServer } from '../../serve/server.ts';

/** A terminal in which a person types these pieces. */
function terminal(pieces: readonly string[], isTerminal = true) {
  const interrupts = new Set<() => void>();
  const { context, out, err } = fakeContext({
    stdin: {
      isTerminal,
      read: async function* () {
        yield* pieces;
      },
    },
    onInterrupt(handler) {
      interrupts.add(handler);
      return () => interrupts.delete(handler);
    },
  });
  return { context, out, err, interrupts };
}

/** A partner that keeps what it is sent, and answers with these texts in turn. */
function scripted(answers: readonly string[], before: (count: number) => void = () => {}) {
  const seen: ChatMessage[][] = [];
  const partner: ChatPartner = {
    async answer(messages, { onText, signal }) {
      seen.push([...messages]);
      before(seen.length);
      for (const word of answers[seen.length - 1]!.split(/(?= )/)) {
        signal.throwIfAborted();
        onText(word);
      }
    },
  };
  return { partner, seen };
}

const session = { system: null, title: 'chat with nano', json: false };
const contents = (messages: readonly ChatMessage[]): string[] => messages.map(({ content }) => content);

describe('a chat in the terminal', () => {
  it('keeps the conversation, and begins again after /clear', async () => {
    const { partner, seen } = scripted(['one', 'two', 'three']);
    const { context, out, err } = terminal(['first\nsec', 'ond\n\n/clear\nthird\n/exit\nnever\n']);
    await runChat(context, { ...session, partner, system: 'Be brief.' });
    expect(seen.map(contents)).toEqual([
      ['Be brief.', 'first'],
      ['Be brief.', 'first', 'one', 'second'],
      ['Be brief.', 'third'],
    ]);
    expect(out()).toBe('> one\n> two\n> > > three\n> ');
    expect(err()).toContain('/exit');
  });

  it('prints only answers when the input is a pipe, and JSON with --json', async () => {
    const piped = terminal(['first\nlast'], false);
    await runChat(piped.context, { ...session, partner: scripted(['one', 'two']).partner });
    expect([piped.out(), piped.err()]).toEqual(['one\ntwo\n', '']);
    const json = terminal(['first']);
    await runChat(json.context, { ...session, json: true, partner: scripted(['o\u001bne']).partner });
    expect(JSON.parse(json.out())).toMatchObject({ event: 'answer', message: 'first', answer: 'o\u001bne' });
    const raw = terminal(['first']);
    await runChat(raw.context, { ...session, partner: scripted(['o\u001bne']).partner });
    expect(raw.out()).not.toContain('\u001b');
  });

  it('stops only the answer at Ctrl-C', async () => {
    const { context, out, interrupts } = terminal(['first\nsecond\n']);
    const seen: ChatMessage[][] = [];
    const partner: ChatPartner = {
      async answer(messages, { onText, signal }) {
        seen.push([...messages]);
        onText('part');
        if (seen.length > 1) return;
        for (const interrupt of interrupts) interrupt();
        signal.throwIfAborted();
      },
    };
    await runChat(context, { ...session, partner });
    expect(contents(seen[1]!)).toEqual(['first', 'part', 'second']);
    expect(out()).toContain('part\n> part\n');
    expect(interrupts.size).toBe(0);
  });

  it('leaves out the oldest messages when the conversation is too long', async () => {
    const { partner, seen } = scripted(['one', 'two', 'x', 'three'], (count) => {
      if (count === 3) throw serveError('CONTEXT_TOO_LONG', 'too long');
    });
    const { context, err } = terminal(['first\nsecond\nthird\n'], false);
    await runChat(context, { ...session, partner, system: 'S' });
    expect(contents(seen[3]!)).toEqual(['S', 'second', 'two', 'third']);
    expect(err()).toContain('oldest');
    const short = scripted(['x'], () => {
      throw serveError('CONTEXT_TOO_LONG', 'too long');
    });
    const one = runChat(terminal(['first']).context, { ...session, partner: short.partner });
    await expect(one).rejects.toMatchObject({ code: 'CONTEXT_TOO_LONG' });
  });
});

const sampling = { temperature: 0, topP: 1, seed: 5 };
const ask = async (partner: ChatPartner, messages: ChatMessage[]): Promise<string> => {
  let text = '';
  const onText = (piece: string): void => {
    text += piece;
  };
  await partner.answer(messages, { onText, signal: new AbortController().signal });
  return text;
};

describe('the partner of a chat', () => {
  it('is a model on this machine, with the template "plain" if it has none', async () => {
    const generator = await fakeGenerator({ answer: () => ({ text: ' Hello.\nUser: more' }), context: 100 });
    const options = { template: null, adapter: undefined, maxTokens: 400, sampling };
    const partner = await openLocalChat(options, { generator, now: () => 0 });
    expect(partner).toMatchObject({ isFallback: true, template: 'built in: plain' });
    expect(await ask(partner, [{ role: 'user', content: 'Hi' }])).toBe(' Hello.');
    const { tokens, maxTokens } = generator.submitted[0]!;
    expect(generator.tokenizer.decode(tokens)).toMatch(/User: Hi\nAssistant:$/);
    expect(maxTokens).toBe(100 - tokens.length);
    const long = ask(partner, [{ role: 'user', content: 'word '.repeat(90) }]);
    await expect(long).rejects.toMatchObject({ code: 'CONTEXT_TOO_LONG', values: { context: 100 } });
    await partner.close();
  });

  it('is a model of a server', async () => {
    const keys = ['a-key-of-the-server'];
    const { server, generator } = await testServer({
      keys,
      answer: () => ({ text: 'Grüße 🐋', ends: true }),
    });
    const signal = new AbortController().signal;
    const options = { url: `${server.url}/v1/`, model: null, key: keys[0]!, maxTokens: 20, sampling, signal };
    const partner = await openRemoteChat(options);
    expect(partner.model).toBe('nano');
    expect(await ask(partner, [{ role: 'user', content: 'Hi' }])).toBe('Grüße 🐋');
    expect(generator.submitted[0]).toMatchObject({ maxTokens: 20, sampling: { seed: 5 } });
    const patient = await openRemoteChat({ ...options, model: 'nano', maxTokens: 4096 });
    await ask(patient, [{ role: 'user', content: 'Hi' }]);
    expect(generator.submitted[1]).toMatchObject({ maxTokens: generator.context / 2 });
    const long = ask(partner, [{ role: 'user', content: 'word '.repeat(600) }]);
    await expect(long).rejects.toMatchObject({ code: 'CONTEXT_TOO_LONG' });
    await expect(openRemoteChat({ ...options, key: null })).rejects.toMatchObject({
      code: 'SERVER_REFUSED',
      values: { status: 401 },
    });
    const nobody = openRemoteChat({ ...options, url: 'http://127.0.0.1:1' });
    await expect(nobody).rejects.toMatchObject({ code: 'SERVER_UNREACHABLE' });
  });
});
