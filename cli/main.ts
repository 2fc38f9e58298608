import { CommanderError } from 'commander';
import { safeJson } from '../common/text.ts';
import { processContext } from './context.ts';
import { failureJson, failureOf, isPrinted, stackText, usageError } from './errors.ts';
import { exitCodes } from './exit-codes.ts';
import { printFailure } from './print.ts';
import { createProgram } from './program.ts';
import { drainOnSignals, OutputClosed } from './signals.ts';

/** Runs the command line of this process and sets its exit code. */
export async function main(): Promise<void> {
  const arguments_ = process.argv.slice(2);
  const json = arguments_.includes('--json');
  const signal = drainOnSignals();
  const context = processContext(signal);
  const fail = (error: unknown): number => {
    const failure = failureOf(error);
    if (isPrinted(error)) return failure.exitCode;
    if (json) process.stdout.write(`${safeJson(failureJson(failure))}\n`);
    else if (failure.kind !== 'interrupted') printFailure(context, failure);
    // Print the stack of an internal error, because a bug report needs it.
    if (failure.kind === 'internal' && error instanceof Error) process.stderr.write(`${stackText(error)}\n`);
    return failure.exitCode;
  };
  process.on('uncaughtException', (error) => process.exit(fail(error)));

  // Node.js exits with 0 when its event loop is empty, even while the command still awaits a promise. Report
  // this case as an error.
  let finished = false;
  process.on('exit', () => {
    if (finished || process.exitCode !== undefined) return;
    process.exitCode = fail(new Error('the event loop is empty, but the command has not finished'));
  });

  try {
    const program = createProgram(context);
    if (arguments_.length === 0) program.outputHelp();
    else await program.parseAsync(arguments_, { from: 'user' });
  } catch (error) {
    if (error instanceof CommanderError) {
      // Commander has already printed its message. Its exit code is 0 for help and version.
      process.exitCode = error.exitCode === 0 ? exitCodes.ok : exitCodes.usage;
      if (json && error.exitCode !== 0)
        fail(
          usageError(
            error.message.replace(/^error: /, ''),
            'add --help to see the arguments and options of this command',
          ),
        );
    } else {
      // A program that reads the output may close it early, as `head` does. That is not a failure.
      process.exitCode = signal.reason instanceof OutputClosed ? exitCodes.ok : fail(error);
    }
  }
  finished = true;
}
