import type { Command } from 'commander';
import { SWARM } from './command-name.ts';
import { registerAdapter } from './commands/adapter.ts';
import { registerChat } from './commands/chat.ts';
import { registerCheckpoint } from './commands/checkpoint.ts';
import { registerCompletion } from './commands/completion.ts';
import { registerCoordinator } from './commands/coordinator.ts';
import { registerData } from './commands/data.ts';
import { registerDemo } from './commands/demo.ts';
import { registerDoctor } from './commands/doctor.ts';
import { registerEvaluate } from './commands/evaluate.ts';
import { registerEvents } from './commands/events.ts';
import { registerGenerate } from './commands/generate.ts';
import { registerInvite } from './commands/invite.ts';
import { registerJob } from './commands/job.ts';
import { registerLogs } from './commands/logs.ts';
import { registerNode } from './commands/node.ts';
import { registerOpen } from './commands/open.ts';
import { registerPeers } from './commands/peers.ts';
import { registerServe } from './commands/serve.ts';
import { registerService } from './commands/service.ts';
import { registerStatus } from './commands/status.ts';
import { registerTop } from './commands/top.ts';
import { registerTrack } from './commands/track.ts';
import { registerTrain } from './commands/train.ts';
import { registerVerify } from './commands/verify.ts';
import { registerVersion } from './commands/version.ts';
import { registerWebhook } from './commands/webhook.ts';
import type { Context } from './context.ts';
import { ProgramCommand, unknownCommand } from './program-command.ts';

/**
 * Builds the command line. Each file in commands/ declares the options of one command. Heavy modules (engine, libp2p) are
 * imported when a command runs, so that help and status appear at once.
 */
export function createProgram(context: Context): Command {
  const program = new ProgramCommand('lora-swarm')
    .description('Fine-tune a LoRA adapter of a language model together with other machines, peer to peer.')
    .version(context.version, '-V, --version')
    .helpCommand(false)
    .showSuggestionAfterError()
    .exitOverride()
    .configureOutput({
      writeOut: (text) => context.stdout.write(text),
      writeErr: (text) => context.stderr.write(text),
      outputError: (text, write) => write(text.replace(/^error: /, 'lora-swarm: ')),
    })
    .showHelpAfterError('  next: add --help to see the arguments and options of this command')
    .addHelpText(
      'after',
      `
First steps:
  ${SWARM} demo             run a whole swarm on this machine (a minute or two)
  ${SWARM} doctor           show which engines this machine can train with
  ${SWARM} coordinator      run a coordinator; create a job on it with "${SWARM} job create FILE.yaml"
  ${SWARM} node -           lend this machine to a job; paste its invite

Exit codes: docs/exit-codes.md`,
    );
  for (const register of [
    registerDemo,
    registerCoordinator,
    registerNode,
    registerJob,
    registerInvite,
    registerStatus,
    registerTop,
    registerOpen,
    registerLogs,
    registerEvents,
    registerService,
    registerPeers,
    registerTrack,
    registerWebhook,
    registerCheckpoint,
    registerVerify,
    registerData,
    registerTrain,
    registerAdapter,
    registerEvaluate,
    registerGenerate,
    registerServe,
    registerChat,
    registerDoctor,
    registerCompletion,
    registerVersion,
  ]) {
    register(program, context);
  }
  program
    .command('help')
    .argument('[command...]', 'name of the command, such as job create')
    .description('show the help of a command')
    .action((names: string[]) => explain(program, names));
  return program;
}

/**
 * Prints the help of a command. Commander's own help command takes only one name, and ignores an unknown name.
 * @throws SwarmError USAGE for an unknown command
 */
function explain(program: Command, names: readonly string[]): void {
  let command = program;
  for (const name of names) {
    const found = command.commands.find((child) => child.name() === name);
    if (found === undefined) throw unknownCommand(command, name);
    command = found;
  }
  command.outputHelp();
}
