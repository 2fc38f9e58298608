import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { suggest, type Value, type ValueKind } from '../../../cli/completion/suggest.ts';
import { createProgram } from '../../../cli/program.ts';
import { silentLogger } from '../../../monitor/logs/log.ts';
import { KnownJobs } from '../../../node/store/known-jobs.ts';
import { fakeContext } from '../../utils/cli-context.ts';

const VALUES: Record<ValueKind, Value[]> = {
  jobs: [
    ['moby', 'training'],
    ['tale', 'paused'],
  ],
  'joined-jobs': [['bolt', 'joined job']],
  peers: [
    ['badger', '…uteebY'],
    ['$(touch x)', 'a hostile name'],
    ['b`id`', 'a hostile name'],
  ],
  adapters: [['demo', 'adapter']],
  tags: [
    ['demo', 'adapter'],
    ['demo:best', 'version 2'],
  ],
  invites: [
    ['shared', 'invite of moby'],
    ['x7Qk', 'Ann, invite of moby'],
  ],
  rounds: [['12', 'held-out loss 2.9130']],
  'rounds-or-best': [
    ['best', 'the best checkpoint'],
    ['12', 'held-out loss 2.9130'],
  ],
};

async function valuesFor(line: string): Promise<string[]> {
  const program = createProgram(fakeContext().context);
  const { values } = await suggest(program, line.split(' '), async (kind) => VALUES[kind]);
  return values.map(([value]) => value);
}

it.each([
  ['jo', ['job']],
  ['job pau', ['pause']],
  ['job pause ', ['moby', 'tale']],
  ['job pause --json t', ['tale']],
  ['job set mo', ['moby']],
  ['checkpoint pull ', ['bolt']],
  ['job create job.yaml --after ', ['moby', 'tale']],
  ['job create job.yaml --from ', ['moby', 'tale']],
  ['peers --why ', ['badger']],
  ['peers ban b', ['badger']],
  ['adapter list ', ['demo']],
  ['adapter show demo:', ['demo:best']],
  ['generate --adapter ', ['demo', 'demo:best']],
  ['service install c', ['coordinator']],
  ['completion f', ['fish']],
  ['node config pol', ['polite=on', 'polite=off', 'polite=default']],
  ['node config polite=o', ['polite=on', 'polite=off']],
  ['node config hours=22:00-07:00 max-up', ['max-upload=', 'max-upload=default']],
  ['job set moby r', ['rounds.count=', 'rounds.minPeers=', 'rounds.maxSeconds=']],
  ['job set moby rounds.count=9 pr', ['priority=']],
  ['train --engine onnx-c', ['onnx-cpu', 'onnx-cuda']],
  ['generate --engine a', ['auto']],
  ['node --base-bits ', ['32', '8', '4']],
  ['chat --template ', ['chatml', 'plain']],
  ['node --log-level ', ['debug', 'info', 'warn', 'error']],
  ['invite revoke ', ['shared', 'x7Qk']],
  ['checkpoint export moby out --round ', ['best', '12']],
  ['job rollback moby --to b', ['best']],
  ['events replay moby --round ', ['12']],
  ['job wait moby --until ', ['finished', 'round=']],
  ['status --che', ['--check']],
])('completes "%s"', async (line, expected) => {
  expect(await valuesFor(line)).toEqual(expected);
});

it('lets the shell suggest files where the program knows no values', async () => {
  const program = createProgram(fakeContext().context);
  const filesFor = async (line: string): Promise<boolean> =>
    (await suggest(program, line.split(' '), async () => [])).files;
  expect(await filesFor('train --data ')).toBe(true);
  expect(await filesFor('job create ')).toBe(true);
  expect(await filesFor('job pause ')).toBe(false);
  expect(await filesFor('status --unknown')).toBe(false);
});

function emptyHome(): string {
  const home = mkdtempSync(join(tmpdir(), 'swarm-test-'));
  onTestFinished(() => rmSync(home, { recursive: true }));
  return home;
}

async function output(args: readonly string[], home = emptyHome()): Promise<string> {
  const { context, out } = fakeContext({
    environment: { SWARM_HOME: home, SWARM_REGISTRY: join(home, 'none') },
  });
  await createProgram(context).parseAsync(args, { from: 'user' });
  return out();
}

it('the command "complete" prints suggestions, a description and a directive, also without a coordinator', async () => {
  expect(await output(['complete', '--', 'job', 'res'])).toMatch(/^resume\t.+\n:4\n$/);
  expect(await output(['complete', '--', 'job', 'pause', ''])).toBe(':4\n');
  expect(await output(['complete', '--', 'adapter', 'show', ''])).toBe(':4\n');
});

it('suggests the jobs that the node of this machine has joined, each name once and the newest first', async () => {
  const home = emptyHome();
  const known = new KnownJobs({ home }, { log: silentLogger });
  for (const [i, name] of ['bolt', 'cargo', 'bolt'].entries()) {
    const job = String(i).repeat(64);
    known.remember({ addresses: [`/ip4/1.2.3.4/tcp/1/p2p/${i}`], job, invite: null }, { job, name });
  }
  await known.saved();
  expect(await output(['complete', '--', 'checkpoint', 'pull', ''], home)).toBe(
    'bolt\tjoined job\ncargo\tjoined job\n:4\n',
  );
});

it.each(['bash', 'zsh', 'fish', 'powershell'])('the script for %s calls "complete"', async (shell) => {
  const script = await output(['completion', shell]);
  expect(script).toMatch(/complete '?--/);
  expect(script.includes('__ltrim_colon_completions')).toBe(shell === 'bash');
  if (shell !== 'bash' || process.platform === 'win32') return;
  expect(spawnSync('bash', ['-n'], { input: script, encoding: 'utf8' })).toMatchObject({
    status: 0,
    stderr: '',
  });
});

it.skipIf(process.platform === 'win32')(
  'bash reads the script again, also after the script of another program with the same variables',
  async () => {
    const script = await output(['completion', 'bash']);
    const other = 'readonly ShellCompDirectiveError=1';
    const input = [other, script, script].join('\n');
    expect(spawnSync('bash', [], { input, encoding: 'utf8' })).toMatchObject({ status: 0, stderr: '' });
  },
);

it('no space follows a suggestion that ends with an equals sign', async () => {
  const directive = async (...words: string[]) =>
    (await output(['complete', '--', ...words])).split(':').at(-1);
  expect(await directive('job', 'set', 'moby', 'prio')).toBe('6\n');
  expect(await directive('node', 'config', 'polite=o')).toBe('4\n');
});

it.skipIf(process.platform === 'win32')(
  'in bash, the part before an equals sign is not repeated',
  async () => {
    const script = await output(['completion', 'bash']);
    const [, complete] = /complete -F (\S+) lora-swarm/.exec(script) ?? [];
    const test = `
    _get_comp_words_by_ref() { words=(lora-swarm node config polite=o); cur=polite=o; cword=3; }
    __ltrim_colon_completions() { :; }
    compopt() { :; }
    lora-swarm() { printf 'polite=on\\tx\\npolite=off\\tx\\n:4\\n'; }
    ${complete}
    echo "\${COMPREPLY[@]}"`;
    const { stdout, stderr } = spawnSync('bash', ['-c', `${script}\n${test}`], { encoding: 'utf8' });
    expect({ stdout, stderr }).toEqual({ stdout: 'on off\n', stderr: '' });
  },
);
