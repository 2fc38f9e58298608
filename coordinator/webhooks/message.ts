/**
 * Messages of webhooks, and their signatures as in the Standard Webhooks specification 1.0, for which libraries exist in
 * most languages. @see https://www.standardwebhooks.com
 */
import { createHmac, randomBytes } from 'node:crypto';
import type { News } from './news.ts';

/** Prefix of secrets, as the specification demands. The rest of a secret is base64. */
const SECRET_PREFIX = 'whsec_';
/** Length of the key in a new secret, in bytes. RFC 2104 advises against keys shorter than the SHA-256 digest. */
const KEY_BYTES = 32;
/** Shortest and longest key that the specification allows, in bytes. */
const KEY_RANGE = [24, 64] as const;

/** The body of a request, as JSON. */
export interface WebhookBody {
  readonly schemaVersion: 1;
  readonly type: News['type'] | 'test';
  /** Time of the event in ISO 8601. */
  readonly timestamp: string;
  readonly text: string;
  /** Facts of the event. For an event of a job, they include the digest (`job`) and the `name` of the job. */
  readonly data: Readonly<Record<string, unknown>>;
}

/** A message for one receiver. */
export interface WebhookMessage {
  /** Unique id. It stays the same in repeated attempts, so that the receiver can ignore a repetition. */
  readonly id: string;
  /** The text that is signed and sent. */
  readonly body: string;
}

export function newMessage(body: WebhookBody, random = randomBytes): WebhookMessage {
  return { id: `msg_${random(16).toString('base64url')}`, body: JSON.stringify(body) };
}

export function newSecret(random = randomBytes): string {
  return `${SECRET_PREFIX}${random(KEY_BYTES).toString('base64')}`;
}

/** Returns the key in a secret; null if the text is not a secret. */
export function keyOf(secret: string): Buffer | null {
  const text = secret.startsWith(SECRET_PREFIX) ? secret.slice(SECRET_PREFIX.length) : secret;
  const key = Buffer.from(text, 'base64');
  const isBase64 = key.toString('base64').replace(/=+$/, '') === text.replace(/=+$/, '');
  return isBase64 && key.length >= KEY_RANGE[0] && key.length <= KEY_RANGE[1] ? key : null;
}

/**
 * Returns the headers that identify and sign a message: HMAC-SHA256 over `id.timestamp.body`.
 * @param options `at`: time of this attempt in milliseconds since 1970
 */
export function signatureHeaders(
  { id, body }: WebhookMessage,
  { key, at }: { key: Buffer; at: number },
): Record<string, string> {
  const timestamp = String(Math.floor(at / 1000));
  const signature = createHmac('sha256', key).update(`${id}.${timestamp}.${body}`).digest('base64');
  return { 'webhook-id': id, 'webhook-timestamp': timestamp, 'webhook-signature': `v1,${signature}` };
}
