import type { Coordinator } from '../coordinator.ts';
import { isPrivateUrl, postOverHttp, privateError } from './post.ts';
import { loadWebhooks, type WebhookSetting } from './settings.ts';
import { Webhooks, type WebhooksDeps } from './webhooks.ts';

interface OpenOptions {
  readonly home: string;
  /** Webhooks in addition to the webhooks in the settings file of the home. */
  readonly given: readonly WebhookSetting[];
  readonly version: string;
}

/** Returns the webhooks of a home, which listen to the coordinator. @throws SwarmError WEBHOOKS_INVALID */
export async function openWebhooks(
  { home, given, version }: OpenOptions,
  deps: Omit<WebhooksDeps, 'post' | 'version' | 'coordinator'> & { coordinator: Coordinator },
): Promise<Webhooks> {
  const targets = await loadWebhooks(home, given);
  for (const { url, shown, allowPrivate } of targets) {
    if (allowPrivate || !isPrivateUrl(url)) continue;
    deps.log.warn({ webhook: shown, reason: `${shown}; ${privateError().next}` }, 'webhook-private');
  }
  const webhooks = new Webhooks({ targets }, { ...deps, version, post: postOverHttp });
  deps.coordinator.onEvent((event) => webhooks.observe(event));
  return webhooks;
}
