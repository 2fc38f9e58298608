import type { Coordinator } from '../coordinator.ts';
import { postOverHttp } from './post.ts';
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
  const webhooks = new Webhooks({ targets }, { ...deps, version, post: postOverHttp });
  deps.coordinator.onEvent((event) => webhooks.observe(event));
  return webhooks;
}
