import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';

const SWARM = join(import.meta.dirname, '../../cli/swarm.js');

function run(node: string, args: readonly string[]) {
  const { status, stdout, stderr } = spawnSync(node, [...args], { encoding: 'utf8' });
  return { status, stdout, stderr };
}

/** Runs swarm.js in a Node.js that reports another version. */
function pretending(version: string) {
  const preload = `Object.defineProperty(process, 'versions', { value: { ...process.versions, node: '${version}' } })`;
  return run(process.execPath, [
    '--import',
    `data:text/javascript,${encodeURIComponent(preload)}`,
    SWARM,
    'version',
  ]);
}

describe('swarm.js', () => {
  it('prints one line on a Node.js that is far too old: found, needed, and how to get it', () => {
    for (const version of ['0.12.18', '8.17.0']) {
      const { status, stdout, stderr } = pretending(version);
      expect(status, version).toBe(1);
      expect(stdout, version).toBe('');
      expect(stderr.trimEnd().split('\n'), version).toHaveLength(1);
      for (const part of [version, '22.18', 'node@24', 'npm ci']) expect(stderr, version).toContain(part);
    }
  });

  it('runs with the Node.js of the checkout if its own is too old', () => {
    for (const version of ['20.20.2', '22.17.1']) {
      expect(pretending(version), version).toMatchObject({
        status: 0,
        stdout: expect.stringContaining(`node ${process.versions.node}`),
        stderr: '',
      });
    }
  });

  it('runs on the oldest Node.js that it accepts, and on newer ones', () => {
    for (const version of ['22.18.0', '23.0.0', '24.1.0']) {
      expect(pretending(version).stdout, version).toContain('lora-swarm');
    }
  });

  it("passes on arguments and exit code from the machine's own Node.js if that is too old", ({ skip }) => {
    const system = '/usr/bin/node';
    if (!existsSync(system)) return skip();
    const found = run(system, ['--version']).stdout.slice(1).split('.').map(Number);
    if (found[0]! > 22 || (found[0] === 22 && found[1]! >= 18)) return skip();
    const { status, stderr } = run(system, [SWARM, 'stauts']);
    expect(status).toBe(2);
    expect(stderr).toContain('status');
  });

  it('has only syntax of ES5', () => {
    // Leaves out strings and comments, because they may contain anything.
    const code = readFileSync(SWARM, 'utf8').replace(/\/\/[^\n]*|"[^"]*"|'[^']*'/g, "''");
    expect(code).not.toMatch(/\b(const|let|class|async|await)\b|=>|`|\?\.|\?\?|\.\.\.|,\s*\)|\bimport\b/);
  });

  it('drops warnings about experimental features, and no others', () => {
    const warn = "process.emitWarning('careful'); process.emitWarning('tried', 'ExperimentalWarning');";
    const late = `process.on('exit', () => {}); setImmediate(() => { ${warn} });`;
    const { stderr, status } = run(process.execPath, [
      '--import',
      `data:text/javascript,${encodeURIComponent(late)}`,
      SWARM,
      'version',
    ]);
    expect(status).toBe(0);
    expect(stderr).toContain('careful');
    expect(stderr).not.toContain('tried');
  });
});
