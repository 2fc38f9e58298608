import { basename, resolve } from 'node:path';
import type { Command } from 'commander';
import { raceSignal } from 'race-signal';
import { resolveCache } from '../../common/files/user-folders.ts';
import type { AdapterSource, Registry } from '../../index.ts';
import { hubOrigin } from '../../lora/models/hub/reference.ts';
import { ADAPTER_HELP } from '../adapter/folder.ts';
import { type RegistryFlags, registryFolder, registryOption } from '../adapter/with-registry.ts';
import type { Context } from '../context.ts';
import { stderrLog } from '../daemon/log.ts';
import { pollUntilAborted, STOP_DEADLINE_MS } from '../daemon/run.ts';
import { BASE_MODEL } from '../models/base-model.ts';
import { openCliGenerator } from '../models/generator.ts';
import {
  baseBits,
  collect,
  ENGINE_THREADS,
  homeOption,
  integer,
  jsonOption,
  webOrigin,
} from '../options/common.ts';
import { templatePath } from '../options/template.ts';
import { printJson, printLines } from '../print.ts';
import { type ApiKeyFlags, apiKeys } from '../serve/api-keys.ts';
import { servedAdapters } from '../serve/served-adapters.ts';
import { readyLines, servedLine } from '../views/serve.ts';

interface ServeOptions extends ApiKeyFlags, RegistryFlags {
  model: string;
  adapter?: string[];
  follow?: string;
  inviteFile?: string;
  job?: string;
  home?: string;
  host: string;
  port: number;
  cors?: string[];
  template?: string;
  threads?: number;
  baseBits?: 32 | 8 | 4;
  context?: number;
  parallel: number;
  cacheMb: number;
  maxAdapters: number;
  maxUnanswered: number;
  maxPerClient: number;
}

export function registerServe(program: Command, context: Context): void {
  program
    .command('serve')
    .description("serve a model and its adapters over HTTP, with OpenAI's API")
    .requiredOption('--model <model>', `base model: ${BASE_MODEL}`)
    .option(
      '--adapter <adapter>',
      `adapter to serve: NAME=DIR, a ${ADAPTER_HELP}; repeatable. If a tag moves, the next request gets the new version (default: none, the base alone)`,
      collect,
    )
    .option(
      '--follow <job>',
      'follow a job: serve its newest checkpoint, and each later checkpoint as soon as it exists. Give the name of a job of this machine\'s coordinator, an invite, a multiaddr of a coordinator, or "-" to read an invite from stdin',
    )
    .option(
      '--invite-file <file>',
      'file with the invite of a job to follow; use this option instead of --follow',
    )
    .option(
      '--job <digest>',
      'digest of the job to follow, if the coordinator has several jobs and the invite or multiaddr names none',
    )
    .addOption(homeOption())
    .addOption(registryOption())
    .option(
      '--host <address>',
      'address to listen on; any address other than a loopback address needs an API key',
      '127.0.0.1',
    )
    .option('--port <port>', 'TCP port; 0 means any free port', integer(0, 65535), 8000)
    .option(
      '--api-key-file <file>',
      'file with one API key per line; clients must send one of these keys. The environment variable SWARM_API_KEY can contain another key',
    )
    .option('--api-key <key>', 'API key. Other users of this machine can see it; prefer --api-key-file')
    .option(
      '--cors <origin>',
      'origin of web pages that may use the server, such as https://chat.example; * allows all; repeatable (default: none)',
      webOrigin,
    )
    .option(
      '--template <name>',
      "chat template of all models: chatml, plain or a file (default: the adapter's, else the base's)",
    )
    .option('--threads <n>', ENGINE_THREADS, integer(1, 1024))
    .option('--base-bits <n>', 'bits per weight of the base: 32, 8 or 4 (default: 32)', baseBits)
    .option(
      '--context <n>',
      "maximum length of a sequence in tokens (default: the model's context, at most 8192)",
      integer(16),
    )
    .option('--parallel <n>', 'number of sequences that are computed at the same time', integer(1, 256), 8)
    .option(
      '--cache-mb <n>',
      'memory for the keys and values of sequences and for the prefix cache, in MiB',
      integer(1),
      1024,
    )
    .option('--max-adapters <n>', 'maximum number of adapters in memory', integer(1, 4096), 16)
    .option(
      '--max-unanswered <n>',
      'maximum number of sequences that wait or are computed; if there are more, the server refuses requests',
      integer(1, 100_000),
      1024,
    )
    .option(
      '--max-per-client <n>',
      'maximum number of sequences of one client that wait or are computed; a client is an API key or, without keys, a network address',
      integer(1, 100_000),
      256,
    )
    .addOption(jsonOption())
    .action((options: ServeOptions) => serve(context, options));
}

async function serve(context: Context, options: ServeOptions): Promise<void> {
  const { cwd, environment, signal, clock } = context;
  const keys = await apiKeys(context, options);
  let registry: Promise<Registry> | null = null;
  const openRegistry = (): Promise<Registry> => {
    registry ??= import('../../index.ts').then((library) =>
      library.openRegistry({ home: registryFolder(context, options) }, { clock }),
    );
    return registry;
  };
  let closeAdapters = async (): Promise<void> => {};
  const generator = await openCliGenerator(context, {
    model: options.model,
    threads: options.threads,
    baseBits: options.baseBits,
    context: options.context,
    rows: options.parallel,
    waiting: options.maxUnanswered,
    cacheBytes: options.cacheMb * 2 ** 20,
  });
  try {
    const { describeBase } = await import('../../lora/models/base/base-identity.ts');
    const { dir } = generator.model;
    const { digest } = await describeBase(dir, { signal, cacheDir: resolveCache(environment, cwd) });
    const base = { digest, dir };
    const { sources: adapters, close } = await servedAdapters(context, options, base, openRegistry);
    closeAdapters = close;
    const { startModelServer } = await import('../../index.ts');
    const { registrySource } = await import('../../serve/models/registry-source.ts');
    const { parseReference } = await import('../../registry/reference.ts');
    const server = await startModelServer(
      {
        name: modelName(dir),
        adapters,
        host: options.host,
        port: options.port,
        keys,
        origins: options.cors ?? [],
        template: options.template === undefined ? null : templatePath(options.template, cwd),
        maxAdapters: options.maxAdapters,
        maxUnanswered: options.maxUnanswered,
        maxUnansweredPerClient: options.maxPerClient,
      },
      {
        generator,
        log: stderrLog(context),
        registry: async (name) => {
          const reference = parseReference(name);
          if (reference === null) return null;
          const source = registrySource({ reference, base }, { registry: await openRegistry() });
          return (await source.find(null)) === null ? null : source;
        },
        onServed: (request) => {
          if (options.json) printJson(context, { schemaVersion: 1, event: 'request', ...request });
          else printLines(context, [servedLine(request, clock.now())]);
        },
      },
    );
    try {
      const models = (await server.models()).map(({ id }) => id);
      const { url, template } = server;
      if (options.json) printJson(context, { schemaVersion: 1, event: 'ready', url, models, template });
      else {
        const ownTemplates = options.template === undefined ? await templatesOf(adapters) : [];
        const facts = { url, template, ownTemplates, hasKeys: keys.length > 0 };
        printLines(context, readyLines(facts, adapters, models));
      }
      // The process that computes the model may die, for example because memory ran out. If it dies, the command ends
      // with the error of that process.
      await pollUntilAborted(signal, async () => {
        await raceSignal(generator.status(), signal).catch((error: unknown) => {
          if (!signal.aborted) throw error;
        });
      });
    } finally {
      await server.stop({ deadlineMs: STOP_DEADLINE_MS });
      if (options.json) printJson(context, { schemaVersion: 1, event: 'stopped' });
      else printLines(context, ['stopped']);
    }
  } finally {
    await closeAdapters();
    await generator.close();
    ((await registry) as Registry | null)?.close();
  }
}

/** Returns the names of the adapters whose current version has its own chat template. */
async function templatesOf(adapters: readonly AdapterSource[]): Promise<string[]> {
  const { adapterTemplate } = await import('../../lora/adapter/adapter-template.ts');
  const names: string[] = [];
  for (const source of adapters) {
    const version = await source.find(null);
    if (version !== null && (await adapterTemplate(await version.folder())) !== null) names.push(source.name);
  }
  return names;
}

/** Returns the name of a base in requests: its name on the hub, or the name of its folder. */
function modelName(dir: string): string {
  return hubOrigin(dir)?.name ?? basename(resolve(dir));
}
