import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { parse } from 'yaml';
import { z } from 'zod';
import { writeDurably } from '../../common/files/durable.ts';
import { nullIfMissing, restrictToOwner } from '../../common/files/file-system.ts';
import { sha256 } from '../../protocol/cbor.ts';
import { coordinatorError } from '../errors.ts';
import { isHttpUrl } from './http-url.ts';
import { keyOf, newSecret } from './message.ts';
import { WEBHOOK_EVENTS, type WebhookEvent } from './news.ts';

/** File in the home with the webhooks of a coordinator. */
export const WEBHOOKS_FILE = 'webhooks.yaml';
/** File in the home with the secret that signs the messages of webhooks that do not have their own secret. */
export const SECRET_FILE = 'webhook-secret';
/** Maximum number of webhooks of a coordinator. It bounds the space of their queues in the database. */
const MAX_WEBHOOKS = 16;

/** The settings of a webhook that the operator chose. */
export interface WebhookSetting {
  readonly url: string;
  /** Types of the messages that the webhook gets. @default all types */
  readonly events?: readonly WebhookEvent[] | undefined;
  /** Secret that signs the messages: `whsec_` and 24 to 64 bytes in base64. @default the secret of the home */
  readonly secret?: string | undefined;
  /** Whether the URL may lead to this machine or to a private network. @default false */
  readonly allowPrivate?: boolean | undefined;
}

/** A webhook that is ready to use. */
export interface WebhookTarget {
  /** Digest of the URL. It stands for the URL in the database, because a URL can contain a token. */
  readonly id: string;
  readonly url: string;
  /** The URL as it is shown: without user, password, path and query, which can contain secrets. */
  readonly shown: string;
  readonly events: readonly WebhookEvent[];
  readonly key: Buffer;
  readonly allowPrivate: boolean;
}

const urlSchema = z.string().max(4096).refine(isHttpUrl, { error: 'must be a URL with http:// or https://' });
const settingSchema = z.strictObject({
  url: urlSchema,
  events: z.array(z.enum(WEBHOOK_EVENTS)).min(1).optional(),
  secret: z
    .string()
    .refine((text) => keyOf(text) !== null, { error: 'must consist of whsec_ and 24 to 64 bytes in base64' })
    .optional(),
  allowPrivate: z.boolean().optional(),
});
export const webhooksSchema = z.array(settingSchema).max(MAX_WEBHOOKS);
const fileSchema = z.strictObject({ webhooks: webhooksSchema });

/**
 * Returns the webhooks of a coordinator. Creates the secret of the home if a webhook needs it.
 * @param home folder with the file `webhooks.yaml`, which may be missing
 * @param given further webhooks, from the options of the coordinator
 * @throws SwarmError WEBHOOKS_INVALID
 */
export async function loadWebhooks(home: string, given: readonly WebhookSetting[]): Promise<WebhookTarget[]> {
  const byUrl = new Map<string, WebhookSetting>();
  for (const setting of [...(await readFileIn(home)), ...given]) {
    // If the file and the command line name the same URL, the values of the file win. Only the file can set events and
    // a secret.
    const { href } = new URL(setting.url);
    byUrl.set(href, { ...setting, ...byUrl.get(href) });
  }
  const needsSecret = [...byUrl.values()].some(({ secret }) => secret === undefined);
  const own = needsSecret ? await loadSecret(home) : null;
  return [...byUrl].map(([url, { events = WEBHOOK_EVENTS, secret, allowPrivate = false }]) => ({
    id: sha256(Buffer.from(url)).slice(0, 32),
    url,
    shown: shownUrl(url),
    events,
    key: secret === undefined ? own! : keyOf(secret)!,
    allowPrivate,
  }));
}

/** Returns a URL without the parts that can contain secrets. */
export function shownUrl(url: string): string {
  const { origin, pathname, search } = new URL(url);
  return pathname === '/' && search === '' ? origin : `${origin}/…`;
}

async function readFileIn(home: string): Promise<readonly WebhookSetting[]> {
  const path = join(home, WEBHOOKS_FILE);
  const text = await readIfThere(path);
  if (text === null) return [];
  await restrictToOwner(path);
  let value: unknown;
  try {
    value = parse(text);
  } catch (cause) {
    // The message of the parser is left out, because it quotes the line, which can contain a secret.
    throw invalid(path, 'it is not YAML', cause);
  }
  const result = fileSchema.safeParse(value);
  if (result.success) return result.data.webhooks;
  const { path: field, message } = result.error.issues[0]!;
  throw invalid(path, `${field.join('.') || 'the file'}: ${message}`);
}

async function loadSecret(home: string): Promise<Buffer> {
  const path = join(home, SECRET_FILE);
  const text = await readIfThere(path);
  const secret = text?.trim() ?? newSecret();
  if (text === null) await writeDurably(path, `${secret}\n`, { mode: 0o600 });
  else await restrictToOwner(path);
  const key = keyOf(secret);
  if (key === null) throw invalid(path, 'its content must consist of whsec_ and 24 to 64 bytes in base64');
  return key;
}

function readIfThere(path: string): Promise<string | null> {
  return readFile(path, 'utf8').catch(nullIfMissing);
}

function invalid(path: string, problem: string, cause?: unknown) {
  return coordinatorError(
    'WEBHOOKS_INVALID',
    `${path} cannot be used: ${problem}`,
    { path, problem },
    { next: 'correct the file; docs/webhooks.md has an example', cause },
  );
}
