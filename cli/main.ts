import { CommanderError } from 'commander';
import { GRAPH_PROCESS_ENVIRONMENT } from '../lora/engines/allocator.ts';
import { processContext } from './context.ts';
import { failureJson, failureLines, failureOf, usageError } from './errors.ts';
import { exitCodes } from './exit-codes.ts';
import { createProgram } from './program.ts';
import { drainOnSignals } from './signals.ts';

/** Runs the command line of this process and sets its exit code. */
export async function main(): Promise<void> {
  const arguments_ = process.argv.slice(2);
  const json = arguments_.includes('--json');
  const fail = (error: unknown): number => {
    const failure = failureOf(error);
    if (json) process.stdout.write(`${JSON.stringify(failureJson(failure))}\n`);
    else if (failure.kind !== 'interrupted') process.stderr.write(`${failureLines(failure).join('\n')}\n`);
    // A defect: the place matters more than good looks.
    if (failure.kind === 'internal' && error instanceof Error) process.stderr.write(`${error.stack}\n`);
    return failure.exitCode;
  };
  process.on('uncaughtException', (error) => {
    // `swarm … | head` closes our output: that is no fault.
    if ('code' in error && error.code === 'EPIPE') process.exit(exitCodes.ok);
    process.exit(fail(error));
  });

  // Node.js ends, with 0, when nothing is left that could settle what a command waits for.
  let over = false;
  process.on('exit', () => {
    if (over || process.exitCode !== undefined) return;
    process.exitCode = fail(new Error('nothing is left to wait for, and the command is not over'));
  });

  // For the trainers that this process starts; what the user has set stays.
  for (const [name, value] of Object.entries(GRAPH_PROCESS_ENVIRONMENT)) process.env[name] ??= value;

  const context = processContext(drainOnSignals());
  try {
    const program = createProgram(context);
    if (arguments_.length === 0) program.outputHelp();
    else await program.parseAsync(arguments_, { from: 'user' });
  } catch (error) {
    if (error instanceof CommanderError) {
      // Commander has printed what it had to say; its own code is 0 for help and version.
      process.exitCode = error.exitCode === 0 ? exitCodes.ok : exitCodes.usage;
      if (json && error.exitCode !== 0)
        fail(usageError(error.message.replace(/^error: /, ''), 'add --help to see what this command takes'));
    } else {
      process.exitCode = fail(error);
    }
  }
  over = true;
}
