import { spawn } from 'node:child_process';
import { once } from 'node:events';

/** Returns the command that opens a file with the program that the user has chosen for such files. */
export function openerOf(file: string): readonly [string, ...string[]] {
  switch (process.platform) {
    case 'darwin':
      return ['open', file];
    case 'win32':
      return ['rundll32', 'url.dll,FileProtocolHandler', file];
    default:
      return ['xdg-open', file];
  }
}

/** Opens a file with the user's program for such files. @returns null, or the reason why this failed */
export async function openFile(file: string): Promise<string | null> {
  const [command, ...args] = openerOf(file);
  return once(spawn(command, args, { stdio: 'ignore' }), 'exit').then(
    ([code]) => (code === 0 ? null : `${command} ended with exit code ${code}`),
    (error: Error) => error.message,
  );
}
