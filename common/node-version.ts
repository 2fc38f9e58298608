import { commonError } from './common-errors.ts';

/**
 * Oldest version of Node.js that runs the program and the library: major and minor version. `engines` of package.json
 * names an older one, because the command finds or fetches a Node.js that is new enough.
 */
const OLDEST = [22, 18] as const;

/**
 * Checks the version of Node.js. No module of the library may import by name anything that Node.js 20 lacks. Such an
 * import would fail before this check runs, with a message that names no version.
 * @throws SwarmError NODE_VERSION
 */
export function requireNode(found: string = process.versions.node): void {
  const [major = 0, minor = 0] = found.split('.').map(Number);
  if (major < OLDEST[0] || (major === OLDEST[0] && minor < OLDEST[1])) throw nodeTooOld(found);
}

export function nodeTooOld(found: string) {
  const message = `this is Node.js ${found}, but lora-swarm needs ${OLDEST.join('.')} or newer`;
  return commonError('NODE_VERSION', message, { found });
}
