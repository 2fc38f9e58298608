import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { parse } from 'yaml';
import { createProgram } from '../../../cli/program.ts';
import { fakeContext } from '../../utils/cli-context.ts';

const ROOT = join(import.meta.dirname, '../../..');
const read = (file: string): string => readFileSync(join(ROOT, file), 'utf8');

interface Compose {
  services: Record<string, { command: string[]; profiles: string[]; volumes: string[]; secrets?: string[] }>;
  secrets: Record<string, unknown>;
  volumes: Record<string, unknown>;
}

it('the image runs as a user without rights, with a health check, a stop signal and a volume', () => {
  const lines = read('Dockerfile').split('\n');
  const last = lines.slice(lines.findLastIndex((line) => line.startsWith('FROM ')));
  const [, version] = /^FROM node:(\d+)-\w+-slim$/.exec(last[0]!)!;
  const [, needed] = /var needed = \[(\d+),/.exec(read('cli/swarm.js'))!;
  expect(Number(version)).toBeGreaterThan(Number(needed));
  const at = (text: string): number => last.findIndex((line) => line.startsWith(text));
  expect(at('USER 1000')).toBeGreaterThan(0);
  expect(at('ENTRYPOINT ["lora-swarm"]')).toBeGreaterThan(at('USER'));
  expect(last.join('\n')).toMatch(/^HEALTHCHECK .*\\\n\s+CMD \["lora-swarm", "status", "--check"\]$/m);
  for (const line of ['STOPSIGNAL SIGTERM', 'VOLUME /data']) expect(last).toContain(line);
});

it('the build context has every path that is kept, and no secrets', () => {
  const kept = read('.dockerignore')
    .split('\n')
    .filter((line) => line.startsWith('!'));
  for (const line of kept)
    if (!line.includes('*')) expect(existsSync(join(ROOT, line.slice(1))), line).toBe(true);
  const { include } = JSON.parse(read('tsconfig.build.json')) as { include: string[] };
  for (const path of include) expect(kept).toContain(`!${path}`);
});

it('compose starts commands that exist, with volumes and secrets that it declares', () => {
  const { services, secrets, volumes } = parse(read('compose.yaml'), { merge: true }) as Compose;
  expect(Object.keys(services)).toEqual(['coordinator', 'node']);
  for (const [name, service] of Object.entries(services)) {
    expect(service).toMatchObject({
      profiles: [name],
      read_only: true,
      cap_drop: ['ALL'],
      volumes: expect.arrayContaining([`${name}:/data`]),
    });
    expect(volumes).toHaveProperty(name);
    for (const secret of service.secrets ?? []) expect(secrets).toHaveProperty(secret);
    const [command, ...args] = service.command;
    const found = createProgram(fakeContext().context).commands.find((one) => one.name() === command)!;
    expect(found.parseOptions(args), name).toMatchObject({ unknown: [], operands: [] });
  }
});
