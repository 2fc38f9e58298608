import { Command } from 'commander';
import { registerCheckpoint } from './commands/checkpoint.ts';
import { registerCoordinator } from './commands/coordinator.ts';
import { registerData } from './commands/data.ts';
import { registerDemo } from './commands/demo.ts';
import { registerDoctor } from './commands/doctor.ts';
import { registerEvaluate } from './commands/evaluate.ts';
import { registerGenerate } from './commands/generate.ts';
import { registerJob } from './commands/job.ts';
import { registerNode } from './commands/node.ts';
import { registerPeers } from './commands/peers.ts';
import { registerStatus } from './commands/status.ts';
import { registerTrain } from './commands/train.ts';
import { registerVersion } from './commands/version.ts';
import type { Context } from './context.ts';
import { usageError } from './errors.ts';

/**
 * All commands. Each file in commands/ declares its options; what is heavy (engine, libp2p) is imported when a
 * command runs, so that help and status come at once.
 */
export function createProgram(context: Context): Command {
  const program = new Command('swarm')
    .description('Fine-tune one LoRA adapter of a language model together, peer to peer.')
    .version(context.version, '-V, --version')
    .helpCommand(false)
    .showSuggestionAfterError()
    .exitOverride()
    .configureOutput({
      writeOut: (text) => context.stdout.write(text),
      writeErr: (text) => context.stderr.write(text),
      outputError: (text, write) => write(text.replace(/^error: /, 'swarm: ')),
    })
    .showHelpAfterError('  next: add --help to see what this command takes')
    .addHelpText(
      'after',
      '\nFirst steps:\n  swarm demo                        a whole swarm on this machine, in a minute or two\n' +
        '  swarm doctor                      what this machine can train with\n' +
        '  swarm coordinator                 run a coordinator; then: swarm job create FILE.yaml\n' +
        '  swarm node INVITE                 lend this machine to a job\n\n' +
        'Exit codes are explained in docs/exit-codes.md.',
    );
  for (const register of [
    registerDemo,
    registerCoordinator,
    registerNode,
    registerJob,
    registerStatus,
    registerPeers,
    registerCheckpoint,
    registerData,
    registerTrain,
    registerEvaluate,
    registerGenerate,
    registerDoctor,
    registerVersion,
  ]) {
    register(program, context);
  }
  program
    .command('help [command...]')
    .description('explain a command, also one of a group: swarm help job create')
    .action((names: string[]) => explain(program, names));
  return program;
}

/** Commander's own help command knows one level, and is silent about a name that it does not know. */
function explain(program: Command, names: readonly string[]): void {
  let command = program;
  for (const name of names) {
    const found = command.commands.find((one) => one.name() === name);
    if (found === undefined) {
      const known = command.commands.map((one) => one.name()).join(', ');
      const where = command === program ? '' : ` of "swarm ${command.name()}"`;
      throw usageError(
        `there is no command "${name}"${where}`,
        known === '' ? undefined : `there are ${known}`,
      );
    }
    command = found;
  }
  command.outputHelp();
}
