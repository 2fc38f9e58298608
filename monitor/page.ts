/**
 * Serves the web page of a daemon: the files of monitor/web, and the packages that they import. In a checkout, browsers
 * get the TypeScript modules without their types; the published package has JavaScript.
 */
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import * as nodeModule from 'node:module';
import { join } from 'node:path';
import type { FastifyInstance, FastifyReply } from 'fastify';

const ROOT = join(import.meta.dirname, '..');
/** Extension of modules: `.ts` in a checkout, `.js` in the published package. */
const EXTENSION = import.meta.url.slice(import.meta.url.lastIndexOf('.'));

const JAVASCRIPT = 'text/javascript; charset=utf-8';
const CSS = 'text/css; charset=utf-8';

/** Files of packages that the page loads, by their names under /page/packages/. */
const PACKAGES: Readonly<Record<string, { file: URL; type: string }>> = {
  'preact.js': { file: new URL(import.meta.resolve('preact')), type: JAVASCRIPT },
  'preact-hooks.js': { file: new URL(import.meta.resolve('preact/hooks')), type: JAVASCRIPT },
  'htm-preact.js': { file: new URL(import.meta.resolve('htm/preact')), type: JAVASCRIPT },
  'htm.js': { file: new URL(import.meta.resolve('htm')), type: JAVASCRIPT },
  'uplot.js': { file: new URL('uPlot.esm.js', import.meta.resolve('uplot')), type: JAVASCRIPT },
  'uplot.css': { file: new URL('uPlot.min.css', import.meta.resolve('uplot')), type: CSS },
};

/** Modules outside monitor/web that the page imports. */
const SHARED = [
  'common/text',
  'monitor/alerts',
  'monitor/best-text',
  'monitor/health-marks',
  'monitor/health-rules',
  'monitor/job-health',
  'monitor/node-limits',
  'monitor/node-state',
  'monitor/node-work',
  'monitor/peer-health',
  'monitor/pending-orders',
  'monitor/replay',
  'monitor/round-end',
  'monitor/round-progress',
];

/** The style sheets, which browsers get as one file. A later sheet overrides the earlier sheets. */
const STYLES = ['page', 'controls', 'tables', 'overview', 'job'];

/** The import map: tells browsers the URLs of the packages that modules import by name. */
const IMPORT_MAP = JSON.stringify({
  imports: {
    preact: '/page/packages/preact.js',
    'preact/hooks': '/page/packages/preact-hooks.js',
    'htm/preact': '/page/packages/htm-preact.js',
    htm: '/page/packages/htm.js',
    uplot: '/page/packages/uplot.js',
  },
});

/**
 * Content security policy of the page. The page runs only its own scripts and talks only to its own daemon. The
 * import map is a script inside the HTML, so the policy allows its hash. @see https://www.w3.org/TR/CSP3/
 */
const CONTENT_POLICY = [
  "default-src 'none'",
  `script-src 'self' 'sha256-${createHash('sha256').update(IMPORT_MAP).digest('base64')}'`,
  "style-src 'self'",
  "connect-src 'self'",
  "img-src 'self' data:",
  "frame-ancestors 'none'",
  "base-uri 'none'",
  "form-action 'none'",
].join('; ');

/** Adds the routes of the page. They need no token, because the files hold no facts about the daemon or its jobs. */
export function addPageRoutes(server: FastifyInstance): void {
  const files = pageFiles();
  const config = { isPublic: true };
  server.get('/', { config }, async (_request, reply) => {
    reply.header('content-security-policy', CONTENT_POLICY).header('referrer-policy', 'no-referrer');
    return send(reply, 'text/html; charset=utf-8', pageHtml());
  });
  for (const [url, { type, read }] of files) {
    server.get(url, { config }, async (_request, reply) => send(reply, type, read()));
  }
}

function send(reply: FastifyReply, type: string, body: string): FastifyReply {
  // The files change with the version of the daemon, so browsers must not keep them.
  return reply
    .header('content-type', type)
    .header('cache-control', 'no-cache')
    .header('x-content-type-options', 'nosniff')
    .send(body);
}

interface PageFile {
  readonly type: string;
  /** Returns the content of the file as browsers get it, with TypeScript types removed. */
  read(): string;
}

/** Returns the files of the page by the paths of their URLs. Only these files can be read. */
function pageFiles(): Map<string, PageFile> {
  const files = new Map<string, PageFile>();
  const modules = readdirSync(join(ROOT, 'monitor/web'), { recursive: true, encoding: 'utf8' })
    .filter((path) => path.endsWith(EXTENSION) && !path.endsWith(`.d${EXTENSION}`))
    .map((path) => `monitor/web/${path.replaceAll('\\', '/')}`);
  for (const path of [...modules, ...SHARED.map((name) => `${name}${EXTENSION}`)]) {
    files.set(`/page/${path}`, { type: JAVASCRIPT, read: once(() => moduleText(join(ROOT, path))) });
  }
  files.set('/page/style.css', { type: CSS, read: once(() => readStyles(STYLES)) });
  for (const [name, { file, type }] of Object.entries(PACKAGES)) {
    files.set(`/page/packages/${name}`, { type, read: once(() => readFileSync(file, 'utf8')) });
  }
  return files;
}

/** Returns style sheets of `monitor/web/styles` as one text. */
export function readStyles(names: readonly string[]): string {
  return names.map((name) => readFileSync(join(ROOT, `monitor/web/styles/${name}.css`), 'utf8')).join('\n');
}

function moduleText(path: string): string {
  const text = readFileSync(path, 'utf8');
  return EXTENSION === '.ts' ? nodeModule.stripTypeScriptTypes(text) : text;
}

function pageHtml(): string {
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>lora-swarm</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="/page/packages/uplot.css">
<link rel="stylesheet" href="/page/style.css">
<script type="importmap">${IMPORT_MAP}</script>
<script type="module" src="/page/monitor/web/main${EXTENSION}"></script>
</head>
<body><noscript>This page needs JavaScript.</noscript></body>
</html>
`;
}

function once(read: () => string): () => string {
  let text: string | null = null;
  return () => {
    text ??= read();
    return text;
  };
}
