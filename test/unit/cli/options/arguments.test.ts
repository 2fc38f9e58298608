import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { InvalidArgumentError } from 'commander';
import { describe, expect, it } from 'vitest';
import { choosePeer } from '../../../../cli/commands/peers.ts';
import { integer, lifetime, number, webOrigin } from '../../../../cli/options/common.ts';
import { keyValues } from '../../../../cli/options/key-values.ts';
import { keysAtStart, limitLines, parseLimits } from '../../../../cli/options/limits.ts';
import { parseTarget, parseTargets, wordsOf } from '../../../../cli/options/target.ts';
import { readTarget, readTargets } from '../../../../cli/options/target-input.ts';
import { resolveCache, resolveHomes } from '../../../../common/files/user-folders.ts';
import { encodeInvite } from '../../../../protocol/access/invite.ts';
import { fakeContext } from '../../../utils/cli-context.ts';
import { temporaryFolder } from '../../../utils/folder.ts';
import { ManualClock } from '../../../utils/manual-clock.ts';
import { withCode } from '../../../utils/source/codes.ts';

const PEER_A = `12D3KooW${'a'.repeat(44)}`;
const PEER_B = `12D3KooW${'b'.repeat(44)}`;
const ADDRESS = `/ip4/127.0.0.1/tcp/4040/p2p/${PEER_A}`;
const JOB = 'c0'.repeat(32);

describe('homes', () => {
  it('come from the flag, else SWARM_HOME, else the XDG data folder by role', () => {
    const environment = { SWARM_HOME: '/env', XDG_DATA_HOME: '/xdg', HOME: '/h' };
    expect(resolveHomes('flag', environment, '/cwd')).toEqual({
      coordinator: '/cwd/flag',
      node: '/cwd/flag',
      reader: '/cwd/flag/reader',
      named: true,
    });
    expect(resolveHomes(undefined, environment, '/cwd').node).toBe('/env');
    expect(resolveHomes(undefined, { XDG_DATA_HOME: '/xdg' }, '/').node).toBe('/xdg/lora-swarm/node');
    expect(resolveHomes(undefined, { HOME: '/h' }, '/').coordinator).toBe(
      '/h/.local/share/lora-swarm/coordinator',
    );
    expect(resolveHomes(undefined, { HOME: '/h' }, '/').reader).toBe('/h/.local/share/lora-swarm/reader');
    expect(resolveCache({ HOME: '/h' }, '/')).toBe('/h/.cache/lora-swarm');
    expect(resolveCache({ SWARM_CACHE: 'c', HOME: '/h' }, '/w')).toBe('/w/c');
  });
});

describe('the origin of web pages', () => {
  it('has a scheme, a host and perhaps a port, but no path', () => {
    const good = ['https://chat.example', 'http://localhost:3000', 'tauri://localhost', '*'];
    expect(good.reduce<string[]>((earlier, value) => webOrigin(value, earlier), [])).toEqual(good);
    for (const value of ['chat.example', 'https://chat.example/', 'tauri://localhost/a', 'null', '']) {
      expect(() => webOrigin(value, []), value).toThrow(InvalidArgumentError);
    }
  });
});

describe('settings as KEY=VALUE', () => {
  it('have the types of YAML', async () => {
    expect(await keyValues(['rounds.count=20', 'training.learningRate=5e-4', 'name=a=b'])).toEqual({
      'rounds.count': 20,
      'training.learningRate': 5e-4,
      name: 'a=b',
    });
  });

  it('are refused without a key or a value, and if a key is given twice', async () => {
    for (const texts of [['rounds.count'], ['=3'], ['a=1', 'a=2'], ['a="']]) {
      await expect(keyValues(texts), texts.join(' ')).rejects.toMatchObject({ code: 'USAGE' });
    }
  });
});

describe('the target of a node', () => {
  it('is an invite with addresses, job and token', () => {
    const invite = encodeInvite({ addresses: [ADDRESS], job: JOB, token: 'secret' });
    expect(parseTarget([invite], undefined)).toEqual({ addresses: [ADDRESS], job: JOB, token: 'secret' });
    expect(parseTarget([invite], JOB).job).toBe(JOB);
  });

  it('is else multiaddrs, with or without a job', () => {
    expect(parseTarget([ADDRESS], undefined)).toEqual({ addresses: [ADDRESS], job: null, token: null });
    expect(parseTarget([ADDRESS, ADDRESS], JOB).job).toBe(JOB);
  });

  it('is refused as a usage error otherwise', () => {
    const invite = encodeInvite({ addresses: [ADDRESS], job: JOB, token: null });
    const wrong: [string[], string | undefined, string][] = [
      [['/ip4/127.0.0.1/tcp/4040'], undefined, 'USAGE'],
      [['example.org'], undefined, 'USAGE'],
      [[invite, ADDRESS], undefined, 'USAGE'],
      [[invite], 'ff'.repeat(32), 'USAGE'],
      [[ADDRESS], 'moby', 'USAGE'],
      [[`${ADDRESS},`], undefined, 'USAGE'],
      [[`${ADDRESS}x`], undefined, 'USAGE'],
      [[`${invite}!`], undefined, 'INVITE_INVALID'],
    ];
    for (const [target, job, code] of wrong) {
      expect(() => parseTarget(target, job), target.join(' ')).toThrow(withCode(code));
    }
  });
});

describe('the jobs of a node', () => {
  const OTHER = ADDRESS.replace(/.$/, (last) => (last === 'x' ? 'y' : 'x'));
  const invite = encodeInvite({ addresses: [ADDRESS], job: JOB, token: 'secret' });
  const second = encodeInvite({ addresses: [ADDRESS], job: 'ee'.repeat(32), token: 'other' });

  it('are invites, and the addresses of each coordinator', () => {
    const near = ADDRESS.replace('/ip4/', '/dns4/');
    expect(parseTargets([invite, OTHER, second], undefined)).toEqual([
      { addresses: [ADDRESS], job: JOB, token: 'secret', weight: 1 },
      { addresses: [OTHER], job: null, token: null, weight: 1 },
      { addresses: [ADDRESS], job: 'ee'.repeat(32), token: 'other', weight: 1 },
    ]);
    expect(parseTargets([ADDRESS, near], JOB)).toEqual([
      { addresses: [ADDRESS, near], job: JOB, token: null, weight: 1 },
    ]);
  });

  it('have weights', () => {
    const weights = (words: string[]) => parseTargets(words, undefined).map(({ weight }) => weight);
    expect(weights([`${invite}=2`, second, `${OTHER}=0.5`])).toEqual([2, 1, 0.5]);
    expect(weights([invite, `${invite}=2`])).toEqual([2]);
    for (const wrong of ['', '0', '-1', 'x', '1e9', 'Infinity']) {
      expect(() => weights([`${invite}=${wrong}`]), wrong).toThrow(withCode('USAGE'));
    }
  });

  it('are not chosen with --job if there are several', () => {
    expect(() => parseTargets([invite, OTHER], JOB)).toThrow(withCode('USAGE'));
    expect(() => parseTargets([invite, 'nonsense'], undefined)).toThrow(withCode('USAGE'));
  });

  /** Lets the next timer of the clock become due. */
  const WAIT = Symbol('wait');

  async function readFrom({ isTerminal }: { isTerminal: boolean }, ...steps: (string | typeof WAIT)[]) {
    const clock = new ManualClock();
    const stdin = {
      isTerminal,
      async *read(signal: AbortSignal): AsyncGenerator<string> {
        for (const step of steps) {
          if (step === WAIT) clock.advance(clock.due()[0]!);
          else yield step;
        }
        if (!signal.aborted) throw new Error('stdin was read after the last step');
        throw signal.reason;
      },
    };
    const { context, err } = fakeContext({ stdin, clock });
    const targets = await readTargets(context, ['-'], {}, { home: '/nowhere', homeFlag: '' });
    return { jobs: targets.map(({ job, weight }) => [job, weight]), notes: err().split('\n').length - 1 };
  }

  const both = [
    [JOB, 3],
    ['ee'.repeat(32), 1],
  ];

  it('are read from stdin, one per line, up to a pause or the end', async () => {
    const pipe = { isTerminal: false };
    expect(await readFrom(pipe, `${invite}\n`, WAIT)).toEqual({ jobs: [[JOB, 1]], notes: 0 });
    const read = await readFrom(pipe, `invite ${invite}=3\n`, `"${second}"\n`, WAIT);
    expect(read.jobs).toEqual(both);
  });

  it('are read from a terminal up to an empty line, or until no further invite comes', async () => {
    const terminal = { isTerminal: true };
    const [one, two] = [`invite ${invite}=3\n`, `"${second}"\n`];
    expect(await readFrom(terminal, one, WAIT, WAIT)).toEqual({ jobs: both.slice(0, 1), notes: 2 });
    expect((await readFrom(terminal, one, WAIT, '\n', WAIT)).jobs).toEqual(both.slice(0, 1));
    expect((await readFrom(terminal, one, WAIT, two, WAIT, '\n', WAIT)).jobs).toEqual(both);
    // A pasted text may have an empty line between its invites.
    expect((await readFrom(terminal, one, '\n', two, WAIT, WAIT)).jobs).toEqual(both);
    await expect(readFrom(terminal, 'swarm1broken\n', WAIT)).rejects.toMatchObject({
      code: 'INVITE_INVALID',
    });
  });
});

describe('an invite', () => {
  const invite = encodeInvite({ addresses: [ADDRESS], job: JOB, token: 'secret' });
  const target = { addresses: [ADDRESS], job: JOB, token: 'secret' };
  const typed = (...chunks: string[]) => ({
    isTerminal: true,
    read: async function* () {
      yield* chunks;
      throw new Error('stdin was read after its first line');
    },
  });
  const piped = (...chunks: string[]) => ({
    isTerminal: false,
    read: async function* () {
      yield* chunks;
    },
  });

  it('is read from stdin, which keeps it out of the arguments', async () => {
    const [half, rest] = [invite.slice(0, 40), invite.slice(40)];
    for (const stdin of [
      piped(invite),
      piped(`\n  ${half}`, `${rest}\n`),
      typed('\n', `${invite}\n`),
      piped(`${ADDRESS}\n`),
    ]) {
      const { context } = fakeContext({ stdin });
      expect(await readTarget(context, ['-'], {})).toMatchObject({ addresses: [ADDRESS] });
    }
    const { context, err } = fakeContext({ stdin: typed(`${invite}\n`) });
    expect(await readTarget(context, ['-'], { job: JOB })).toEqual(target);
    expect(err()).toContain('Enter');
  });

  it('is taken out of the line that another command printed, and out of quotation marks', async () => {
    const lines = [`invite    ${invite}`, `"${invite}"`, `<${invite}>`, `moby: “${invite}”.`];
    for (const line of lines) {
      const { context } = fakeContext({ stdin: piped(`${line}\n`) });
      expect(await readTarget(context, ['-'], {}), line).toEqual(target);
      expect(await readTarget(context, line.split(' '), {}), line).toEqual(target);
    }
    const { context } = fakeContext({ stdin: piped(`invite ${invite}=2\ninvite ${invite}x\n`) });
    await expect(readTarget(context, ['-'], {})).rejects.toMatchObject({ code: 'USAGE' });
    await expect(readTarget(context, ['invite'], {})).rejects.toMatchObject({
      code: 'USAGE',
      next: expect.stringContaining('swarm1'),
    });
    const [half, rest] = [invite.slice(0, 40), invite.slice(40)];
    await expect(readTarget(context, [half, rest], {})).rejects.toMatchObject({ code: 'INVITE_INVALID' });
  });

  it('is found in a word of any length', () => {
    // A search in quadratic time would take minutes here, which exceeds the time limit of a test.
    const marks = ')'.repeat(500_000);
    expect(wordsOf(`(${invite}${marks}`)).toEqual([invite]);
    expect(wordsOf(`${invite}${marks}x`)).toEqual([`${invite}${marks}x`]);
  });

  it('is refused beside a word with "="', async () => {
    for (const word of ['=2', 'threads=2']) {
      const { context } = fakeContext({ stdin: piped(`${invite} ${word}\n`) });
      const values = { code: 'USAGE', message: expect.stringContaining(`"${word}"`) };
      await expect(
        readTargets(context, [invite, word], {}, { home: '/nowhere', homeFlag: '' }),
      ).rejects.toMatchObject(values);
      await expect(readTarget(context, ['-'], {})).rejects.toMatchObject(values);
    }
  });

  it('is read from a file, or else from SWARM_INVITE', async () => {
    const cwd = await temporaryFolder();
    await writeFile(join(cwd, 'invite.txt'), `${invite}\n`);
    const { context } = fakeContext({ cwd, environment: { SWARM_INVITE: ` ${ADDRESS} ${ADDRESS}\n` } });
    expect(await readTarget(context, [], { inviteFile: 'invite.txt' })).toEqual(target);
    expect((await readTarget(context, [], {})).addresses).toEqual([ADDRESS, ADDRESS]);
    expect(await readTarget(context, [invite], {})).toEqual(target);
  });

  it('is refused with advice when there is none, when there are two, and when it is too long', async () => {
    const cwd = await temporaryFolder();
    await writeFile(join(cwd, 'empty'), '\n');
    const { context } = fakeContext({ cwd });
    const wrong: [string[], string | undefined][] = [
      [[], undefined],
      [['-'], undefined],
      [[], 'empty'],
      [[invite], 'empty'],
      [['-', ADDRESS], undefined],
    ];
    for (const [given, inviteFile] of wrong) {
      const read = readTarget(context, given, inviteFile === undefined ? {} : { inviteFile });
      await expect(read, given.join(' ')).rejects.toMatchObject({ code: 'USAGE' });
    }
    await expect(readTarget(context, ['-', ADDRESS], {})).rejects.toMatchObject({
      next: expect.stringContaining('Enter'),
    });
    // The commands that read one invite do not take part in the job, so their advice does not name "node".
    await expect(readTarget(context, [], { inviteFile: 'empty' })).rejects.toMatchObject({
      next: expect.not.stringContaining('node -'),
    });
    await expect(
      readTargets(context, [], { inviteFile: 'empty' }, { home: cwd, homeFlag: '' }),
    ).rejects.toMatchObject({
      next: expect.stringMatching(/node -.*--invite-file/),
    });
    const endless = fakeContext({
      stdin: {
        isTerminal: false,
        read: async function* () {
          for (;;) yield 'x'.repeat(65_536);
        },
      },
    });
    await expect(readTarget(endless.context, ['-'], {})).rejects.toMatchObject({ code: 'USAGE' });
    await expect(readTarget(context, [], { inviteFile: 'missing' })).rejects.toMatchObject({
      code: 'INVITE_FILE_NOT_FOUND',
      kind: 'notFound',
      values: { path: join(cwd, 'missing') },
      next: expect.stringContaining('--invite-file'),
    });
  });
});

describe('a lifetime', () => {
  it('is a number of minutes, hours or days, or never', () => {
    expect(['30m', '12h', '7d', 'never'].map(lifetime)).toEqual([
      1_800_000,
      43_200_000,
      604_800_000,
      Number.POSITIVE_INFINITY,
    ]);
    for (const text of ['', '7', '0d', '7w', '-1d', '1.5h', '7 d', '99999d'])
      expect(() => lifetime(text), text).toThrow();
  });
});

describe('a peer', () => {
  const peers = [
    { peer: PEER_A, name: 'otter' },
    { peer: PEER_B, name: 'heron' },
    { peer: PEER_B, name: 'heron' },
  ];

  it('is found by its id, its name or the end of its id', () => {
    expect(choosePeer(peers, PEER_A)).toBe(PEER_A);
    expect(choosePeer(peers, 'heron')).toBe(PEER_B);
    expect(choosePeer(peers, '…bbbbbb')).toBe(PEER_B);
    expect(choosePeer([], PEER_A)).toBe(PEER_A);
  });

  it('is found by the name of a removed node if no other node has the name', () => {
    const former = [
      { peer: PEER_A, name: 'heron' },
      { peer: PEER_A, name: 'wren' },
    ];
    expect(choosePeer(peers, 'wren', former)).toBe(PEER_A);
    expect(choosePeer(peers, 'heron', former)).toBe(PEER_B);
  });

  it('is not found by a text that is too short or ambiguous', () => {
    expect(() => choosePeer(peers, 'a')).toThrow(withCode('PEER_NOT_FOUND'));
    const twins = [...peers, { peer: PEER_A, name: 'heron' }];
    expect(() => choosePeer(twins, 'heron')).toThrow(withCode('USAGE'));
  });
});

describe('numbers on the command line', () => {
  it('must be in their range, and whole where needed', () => {
    expect(integer(1, 8)('8')).toBe(8);
    expect(number(0, 1)('1e-3')).toBe(0.001);
    for (const text of ['0', '9', '1.5', '1e1', '', ' 3', 'x'])
      expect(() => integer(1, 8)(text), text).toThrow();
    for (const text of ['-0.1', '1.1', '', 'x', 'Infinity', 'NaN'])
      expect(() => number(0, 1)(text), text).toThrow();
  });
});

describe('limits of a node', () => {
  it('are parsed from KEY=VALUE, with the units of the flags', () => {
    expect(parseLimits(['threads=2', 'max-disk=1.5', 'max-memory=default'])).toEqual({
      threads: 2,
      maxDiskBytes: 1.5 * 1024 ** 3,
      maxMemoryBytes: null,
    });
    for (const wrong of [
      ['threads=1.5'],
      ['threads='],
      ['max-disk=-1'],
      ['disk=1'],
      ['x'],
      ['threads=1', 'threads=2'],
    ]) {
      expect(() => parseLimits(wrong), wrong.join(' ')).toThrow(withCode('USAGE'));
    }
  });

  it('are shown with their defaults', () => {
    const lines = limitLines({ maxDiskBytes: 3 * 1024 ** 3 });
    expect(lines.find((line) => line.startsWith('max-disk'))).toContain('3 GiB');
    expect(lines.find((line) => line.startsWith('threads'))).toContain('default');
    expect(keysAtStart({ threads: 2, maxDiskBytes: 1 })).toEqual(['threads']);
  });
});
