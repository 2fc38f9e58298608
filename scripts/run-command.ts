import { spawn } from 'node:child_process';
import { once } from 'node:events';

/** Runs a command in a folder, with its output on this terminal. @throws Error when its exit code is not 0 */
export async function runCommand(
  command: string,
  args: readonly string[],
  cwd: string,
  env: NodeJS.ProcessEnv = process.env,
): Promise<void> {
  // On Windows, npm and tsc are .cmd files, which only a shell can start.
  const shell = process.platform === 'win32' && ['npm', 'tsc'].includes(command);
  const [code, signal] = await once(spawn(command, args, { cwd, env, stdio: 'inherit', shell }), 'close');
  if (code !== 0) throw new Error(`${command} ${args.join(' ')} ended with ${signal ?? code}`);
}
