import { type Command, CommanderError } from 'commander';
import { describe, expect, it } from 'vitest';
import { createProgram } from '../../../cli/program.ts';
import { fakeContext } from '../../utils/cli-context.ts';

async function parse(...args: string[]) {
  const { context, out, err } = fakeContext();
  const error = await createProgram(context)
    .parseAsync(args, { from: 'user' })
    .then(
      () => null,
      (caught: unknown) => caught,
    );
  return { error, out: out(), err: err() };
}

function leaves(command: Command): Command[] {
  const children = command.commands.filter((c) => c.name() !== 'help');
  return children.length === 0 ? [command] : children.flatMap(leaves);
}

describe('the command line', () => {
  it('has all commands, each with a description and --json', () => {
    const program = createProgram(fakeContext().context);
    expect(program.commands.map((c) => c.name()).filter((name) => name !== 'help')).toEqual([
      'demo',
      'coordinator',
      'node',
      'job',
      'invite',
      'status',
      'top',
      'open',
      'logs',
      'events',
      'service',
      'peers',
      'track',
      'webhook',
      'checkpoint',
      'verify',
      'data',
      'train',
      'adapter',
      'evaluate',
      'generate',
      'serve',
      'chat',
      'doctor',
      'completion',
      'complete',
      'version',
    ]);
    for (const command of leaves(program)) {
      expect(command.description(), command.name()).not.toBe('');
      expect(
        command.options.map((o) => o.long),
        command.name(),
      ).toContain('--json');
    }
  });

  it('suggests the command that was probably meant', async () => {
    for (const [words, meant] of [
      ['stauts', 'lora-swarm status'],
      ['rollback', 'lora-swarm job rollback'],
      ['job edit', 'lora-swarm job set'],
      ['job pasue', 'lora-swarm job pause'],
      ['job ban', 'lora-swarm peers ban'],
      ['adapter delete', 'lora-swarm adapter rm'],
      ['peers unban', 'lora-swarm peers pardon'],
      ['node pasue', 'lora-swarm node pause'],
      ['node stop', 'lora-swarm node drain'],
      ['node quit', 'lora-swarm node drain'],
      ['coordinator stop', 'lora-swarm service uninstall coordinator'],
      ['stop', 'lora-swarm node drain'],
      ['job kill', 'lora-swarm job stop'],
      ['help job edit', 'lora-swarm job set'],
    ] as const) {
      const { error } = await parse(...words.split(' '));
      expect(error, words).toMatchObject({ code: 'USAGE', next: expect.stringContaining(`"${meant}"`) });
    }
  });

  it('takes an invite after its label, though the label is similar to a command', async () => {
    for (const label of ['invite', 'Invite', 'job']) {
      const { error } = await parse('node', label, 'swarm1broken');
      expect(error, label).toMatchObject({ code: 'INVITE_INVALID' });
      expect((await parse('node', label)).error, label).toMatchObject({ code: 'USAGE' });
    }
  });

  it('lists the commands of a group if none is similar', async () => {
    expect((await parse('invite', 'xyzzy')).error).toMatchObject({
      code: 'USAGE',
      next: expect.stringContaining('create, list, revoke'),
    });
    expect((await parse('xyzzy')).error).toMatchObject({ next: expect.stringContaining('lora-swarm help') });
    expect((await parse('status', 'xyzzy')).error).toMatchObject({ code: 'USAGE' });
  });

  it('takes all the files that a shell expands a pattern to', async () => {
    for (const command of [['data', 'inspect'], ['evaluate']]) {
      const { error } = await parse(...command, '--data', 'a.txt', 'b.txt', '--model', './away');
      expect(error).toMatchObject({ code: 'MODEL_DIR' });
    }
  });

  it('refuses options of "doctor" that have no effect', async () => {
    for (const [args, flag] of [
      [['--swarm', '--model', 'x', '--threads', '2'], '--model and --threads'],
      [['--swarm', '--base-bits', '32'], '--base-bits'],
      [['--home', 'x'], '--home'],
    ] as const) {
      const { error } = await parse('doctor', ...args);
      expect(error).toMatchObject({ code: 'USAGE', message: expect.stringContaining(flag) });
    }
  });

  it('refuses options of "evaluate" that have no effect', async () => {
    for (const [args, flags, other] of [
      [['--data', 'x', '--report', 'r', '--max-length', '9'], '--report and --max-length', '--tasks'],
      [['--data', 'x', '--record'], '--record', '--tasks'],
      [['--tasks', 'x', '--template', 'plain'], '--template', '--data'],
    ] as const) {
      const { error } = await parse('evaluate', '--model', 'm', ...args);
      expect(error).toMatchObject({ code: 'USAGE', message: expect.stringContaining(flags) });
      expect(error).toMatchObject({ message: expect.stringContaining(other) });
    }
  });

  it('shows no default of an argument that must be given', async () => {
    for (const command of leaves(createProgram(fakeContext().context))) {
      for (const argument of command.registeredArguments.filter(({ required }) => required)) {
        expect(argument.description, command.name()).not.toContain('(default:');
      }
      for (const option of command.options) expect(option.defaultValue, command.name()).not.toBe('');
    }
  });

  it('has help for commands in groups, and refuses unknown names', async () => {
    expect((await parse('help', 'job', 'create')).out).toContain('--dry-run');
    expect((await parse('help')).out).toContain('lora-swarm node -');
    expect((await parse('help', 'job', 'craete')).error).toMatchObject({ code: 'USAGE' });
  });

  it('refuses unknown options and values out of range when parsing', async () => {
    for (const args of [
      ['status', '--jsn'],
      ['demo', '--rounds', '0'],
      ['demo', '--nodes', 'three'],
      ['train', '--model', 'm', '--data', 'd', '--output', 'o', '--learning-rate', '2'],
      ['train', '--model', 'm', '--data', 'd', '--output', 'o', '--schedule', 'exponential'],
      ['evaluate', '--data', 'x'],
      ['coordinator', '--listen', 'localhost:4040'],
      ['coordinator', '--bootstrap', '/ip4/127.0.0.1/udp/1'],
      ['coordinator', '--announce', `/ip4/8.8.4.4/tcp/88/p2p/12D3KooW${'a'.repeat(44)}`],
    ]) {
      expect((await parse(...args)).error, args.join(' ')).toBeInstanceOf(CommanderError);
    }
  });

  it('prints the version as text and as JSON', async () => {
    expect((await parse('version')).out).toMatch(/^lora-swarm 1\.2\.3\nnode \d/);
    expect(JSON.parse((await parse('version', '--json')).out)).toMatchObject({
      schemaVersion: 1,
      version: '1.2.3',
    });
  });

  it('takes a round or "best" for a roll-back', async () => {
    const rollBack = (...args: string[]) => parse('job', 'rollback', 'x', '--home', '/nowhere', ...args);
    for (const to of ['best', '0', '12']) {
      expect((await rollBack('--to', to)).error).toMatchObject({ code: 'DAEMON_NOT_RUNNING' });
    }
    for (const args of [[], ['--to', 'worst'], ['--to', '-1'], ['--to', '1.5']]) {
      expect((await rollBack(...args)).error, args.join(' ')).toMatchObject({
        code: expect.stringMatching(/^commander\./),
      });
    }
  });

  it('fails without a daemon, and names the command that starts one', async () => {
    for (const args of [['peers'], ['job', 'list'], ['checkpoint', 'list'], ['job', 'wait', 'x']]) {
      const { error } = await parse(...args, '--home', '/nowhere/at/all');
      expect(error, args.join(' ')).toMatchObject({
        code: 'DAEMON_NOT_RUNNING',
        next: expect.stringContaining('lora-swarm coordinator --home /nowhere/at/all'),
      });
    }
    const { context } = fakeContext({ environment: { XDG_DATA_HOME: '/nowhere/data' } });
    const atDefault = createProgram(context).parseAsync(['job', 'list'], { from: 'user' });
    await expect(atDefault).rejects.toMatchObject({
      code: 'DAEMON_NOT_RUNNING',
      next: expect.not.stringContaining('/nowhere'),
    });
    const { error } = await parse('status', '--home', '/nowhere/at/all');
    expect(error).toMatchObject({
      code: 'DAEMON_NOT_RUNNING',
      next: expect.stringMatching(/lora-swarm coordinator .*lora-swarm node -/),
    });
  });

  it('takes no option for the value of the option before it', async () => {
    const { error } = await parse('track', '--csv', '--tensorboard', '--no-follow');
    expect(error).toBeInstanceOf(CommanderError);
    expect((error as CommanderError).code).toBe('commander.invalidArgument');
  });
});
