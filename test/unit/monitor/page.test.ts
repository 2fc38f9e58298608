import { createHash } from 'node:crypto';
import Fastify from 'fastify';
import { expect, it, onTestFinished } from 'vitest';
import { requireToken } from '../../../monitor/loopback-server.ts';
import { addPageRoutes } from '../../../monitor/page.ts';
import { importsOf, parseModule } from '../../utils/source/syntax.ts';

function server() {
  const made = Fastify();
  onTestFinished(() => made.close());
  requireToken(made, 'secret');
  addPageRoutes(made);
  made.get('/v1/status', async () => ({}));
  return made;
}

/** Returns the modules that a module imports when it runs. */
function importsIn(path: string, text: string): string[] {
  return importsOf(parseModule({ path, text })).flatMap(({ target }) => (target === null ? [] : [target]));
}

it('serves every module that the page imports, without a token', async () => {
  const page = server();
  const html = (await page.inject('/')).body;
  const { imports } = JSON.parse(/<script type="importmap">(.*?)<\/script>/.exec(html)![1]!) as {
    imports: Record<string, string>;
  };
  const waiting = [...html.matchAll(/(?:src|href)="(\/[^"]+)"/g)].map(([, path]) => path!);
  const seen = new Set(waiting);
  for (const path of waiting) {
    const answer = await page.inject(path);
    expect(answer.statusCode, path).toBe(200);
    expect(answer.headers['content-type'], path).toMatch(
      path.endsWith('.css') ? /^text\/css/ : /^text\/javascript/,
    );
    if (path.endsWith('.css')) continue;
    for (const target of importsIn(path, answer.body)) {
      const next = target.startsWith('.') ? new URL(target, `http://page${path}`).pathname : imports[target];
      expect(next, `${target} in ${path}`).toBeDefined();
      if (!seen.has(next!)) waiting.push(next!);
      seen.add(next!);
    }
  }
  expect(seen.size).toBeGreaterThan(20);
});

it('serves nothing else without a token', async () => {
  const page = server();
  for (const path of [
    '/v1/status',
    '/page/',
    '/page/package.json',
    '/page/monitor/page.ts',
    '/page/monitor/web/../page.ts',
    '/page/monitor/web/%2e%2e/page.ts',
    '/page/monitor/web/tsconfig.json',
  ]) {
    expect((await page.inject(path)).statusCode, path).toBe(401);
  }
});

it('lets browsers run only scripts of the daemon, and its import map by its hash', async () => {
  const { headers, body } = await server().inject('/');
  const policy = String(headers['content-security-policy']);
  const map = /<script type="importmap">(.*?)<\/script>/.exec(body)![1]!;
  const hash = createHash('sha256').update(map).digest('base64');
  expect(policy.split('; ')).toEqual(
    expect.arrayContaining([
      "default-src 'none'",
      `script-src 'self' 'sha256-${hash}'`,
      "connect-src 'self'",
      "frame-ancestors 'none'",
    ]),
  );
  expect(policy).not.toContain('unsafe');
  // Browsers send the address of a page to servers that it links to, but never the fragment, which has the token.
  expect(headers['referrer-policy']).toBe('no-referrer');
});
